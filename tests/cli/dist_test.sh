#!/bin/sh
# dist_test.sh BINARY: the program needs glibc and libstdc++ only, and a copy runs in an empty folder with nothing at home.
set -eu
binary=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if ldd "$binary" | grep -q 'lib[at]san\|libubsan'; then
  echo "a build with sanitizers is not for copying: nothing to check"
  exit 0
fi
others=$(ldd "$binary" | awk '{print $1}' | grep -v -E '^(linux-vdso\.so\.1|/lib.*/ld-linux.*|lib(c|m|pthread|dl|rt|gcc_s)\.so\.[0-9]+|libstdc\+\+\.so\.6)$' || true)
if [ -n "$others" ]; then
  echo "the program needs libraries that another machine may not have: $others"
  exit 1
fi

mkdir "$folder/home"
cp "$binary" "$folder/p"
cd "$folder"
answer=$(env -i HOME="$folder/home" PATH=/usr/bin:/bin OLLAMA_HOST=127.0.0.1:9 ./p run --think=false ponder-tiny "What is 2 + 3?" </dev/null)
case $answer in
*5*) ;;
*) echo "a copy answered: $answer" && exit 1 ;;
esac
left=$(find "$folder" -mindepth 1 ! -path "$folder/home" ! -path "$folder/p")
if [ -n "$left" ]; then
  echo "a run left files behind: $left"
  exit 1
fi
echo "the program and its copy are fine"

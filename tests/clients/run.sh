#!/bin/sh
# run.sh python|thinking|node TOOLS BINARY: the tests of one language with the clients that tools/test-tools put into TOOLS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
language=$1 tools=$2 binary=$3
missing() {
  echo "the official clients are not in $tools ($1 is missing): run \`make test\`, or tools/test-tools $tools" >&2
  exit 1
}
case $language in
python)
  [ -x "$tools/python/bin/python" ] || missing "$tools/python"
  exec "$tools/python/bin/python" "$here/python_test.py" "$binary"
  ;;
thinking)
  [ -x "$tools/python/bin/python" ] || missing "$tools/python"
  exec "$tools/python/bin/python" "$here/thinking_test.py" "$binary"
  ;;
node)
  [ -d "$tools/node/node_modules/ollama" ] && [ -d "$tools/node/node_modules/openai" ] || missing "$tools/node/node_modules"
  exec "$tools/python/bin/python" "$here/with_server.py" "$binary" node "$here/node_test.mjs" "$tools/node"
  ;;
*) echo "usage: $0 python|thinking|node TOOLS BINARY" >&2 && exit 2 ;;
esac

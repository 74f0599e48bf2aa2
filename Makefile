# Sonde. `make run` watches this machine, `make test` tests everything it can.
# Every target is safe to run on a machine that has only Go and Debian's apt:
# what is missing is installed by the step that needs it, and said.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build image generate lint fmt test test-kernels soak bench docs clean

# ENV settles caches and tools; see the file.
ENV := source hack/env.sh

# The version is written here and nowhere else: a tag v1.2.3 wins.
VERSION  ?= $(or $(patsubst v%,%,$(shell git describe --tags --match 'v*' --dirty 2>/dev/null)),0.1.0-dev)
REVISION ?= $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)

ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: build ## build the sensor and run it as root on this machine (ARGS='--flag ...')
	@hack/as-root.sh bin/sonde run $(ARGS)

build: ## build bin/sonde: one static binary, eBPF objects inside
	@$(ENV) && CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sonde ./cmd/sonde

image: ## build the container image sonde:VERSION with podman, buildah or docker
	@$(ENV) && CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sonde-amd64 ./cmd/sonde
	@hack/image.sh '$(VERSION)' '$(REVISION)'

generate: ## compile the eBPF programs and make every other generated file anew
	@hack/generate.sh

lint: ## check layout, vet, and the linters' rules, without changing a file
	@hack/lint.sh

fmt: ## lay out the Go and the C
	@hack/need.sh format
	@$(ENV) && gofmt -w . && c_sources | xargs -r clang-format-16 -i

test: ## run every test this machine allows: lint, generated, unit, kernel, script, e2e, vm
	@hack/test.sh

test-kernels: ## run the eBPF tests on this kernel and on emulated Debian kernels
	@hack/test.sh kernel vm

soak: ## run the long tests (hours); the short form of each is in make test
	@hack/test.sh soak

bench: ## measure what the sensor costs here: the overhead ladder
	@$(ENV) && hack/as-root.sh env PATH="$$PATH" go test -run '^$$' -bench . -count 5 -timeout 2h ./bench/...

docs: ## write the generated reference pages (docs/metrics.md, docs/flags.md)
	@hack/generate.sh docs

clean: ## remove what was built; caches outside the checkout stay
	@rm -rf bin

# Sonde. `make run` watches this machine, `make test` tests everything it can.
# Every target is safe to run on a machine that has only Go and Debian's apt:
# what is missing is installed by the step that needs it, and said.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run demo build image generate lint fmt test test-kernels soak generated bench bench-report bench-compare bench-verdict bench-comment bench-trend bench-baseline docs clean

# ENV settles caches and tools; see the file.
ENV := source hack/env.sh

# The version is written here and nowhere else: a tag v1.2.3 wins.
VERSION  ?= $(or $(patsubst v%,%,$(shell git describe --tags --match 'v*' --dirty 2>/dev/null)),0.1.0-dev)
REVISION ?= $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)

ARGS ?=
RESULTS ?= bin/bench/results.json

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: build ## build the sensor and run it as root on this machine (ARGS='--flag ...')
	@hack/as-root.sh bin/sonde run $(ARGS)

demo: build ## show this machine on the dashboards: sensor, Prometheus, workload and a page
	@$(ENV) && hack/tool.sh prometheus >/dev/null && hack/as-root.sh env PATH="$$PATH" SONDE_CACHE="$$SONDE_CACHE" hack/demo.sh

build: ## build bin/sonde: one static binary, eBPF objects inside
	@$(ENV) && CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sonde ./cmd/sonde

image: ## build the container image sonde:VERSION with podman, buildah or docker
	@$(ENV) && CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sonde-amd64 ./cmd/sonde
	@hack/image.sh '$(VERSION)' '$(REVISION)'

.PHONY: packages
packages: ## build deb and rpm for amd64 and arm64 into bin/packages
	@$(ENV) && for arch in amd64 arm64; do CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sonde-$$arch ./cmd/sonde; done
	@hack/packages.sh '$(VERSION)'

generate: ## compile the eBPF programs and make every other generated file anew
	@hack/generate.sh

lint: ## check layout, vet, and the linters' rules, without changing a file
	@hack/lint.sh

fmt: ## lay out the Go and the C
	@hack/need.sh format
	@$(ENV) && gofmt -w . && c_sources | xargs -r clang-format-16 -i

test: ## run every test this machine allows: lint, generated, unit, kernel, script, e2e, vm
	@hack/test.sh

generated: ## check that what is generated is what the source makes
	@hack/test.sh generated

test-kernels: ## run the eBPF tests on this kernel and on emulated Debian kernels
	@hack/test.sh kernel vm

soak: ## run the long tests (hours); the short form of each is in make test
	@hack/test.sh soak

bench: ## measure what the sensor costs here, as benchstat reads it: ladder, event path, scrapes
	@hack/bench.sh ladder

bench-report: ## measure on a quiet machine, and write tables and plots to docs/performance.md
	@hack/bench.sh report

bench-compare: ## judge what this checkout costs against the commit BASE (default: main)
	@hack/bench.sh compare $(BASE)

bench-verdict: ## judge RESULTS again, and write the comment with the trend
	@hack/bench.sh verdict $(RESULTS)

bench-comment: ## post the comment at the pull request of commit SHA in REPO, or update it
	@hack/bench.sh comment $(REPO) $(SHA)

bench-trend: ## take the trend of main from its branch
	@hack/bench.sh fetch-trend

bench-baseline: ## add RESULTS to the trend, and keep it in its branch
	@hack/bench.sh baseline $(RESULTS)
	@hack/bench.sh push-trend

docs: ## write the generated reference pages (docs/metrics.md, docs/flags.md)
	@hack/generate.sh docs

clean: ## remove what was built; caches outside the checkout stay
	@rm -rf bin

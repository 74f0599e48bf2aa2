#!/bin/bash
# test.sh [LAYER...] runs the tests in layers, cheapest first, and says what each
# one took. Without an argument it runs every layer that this machine allows;
# with SONDE_TEST_MUST=1 a test that has to be left out is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

everything=(lint generated unit kernel script e2e vm)
layers=("$@")
[ $# -gt 0 ] || layers=("${everything[@]}")

# root_exec says how go test starts a test binary that wants root.
root_exec=()
if [ "$(id -u)" != 0 ]; then
	if have sudo; then
		root_exec=(-exec "sudo --preserve-env=PATH,SONDE_CACHE,SONDE_TEST_MUST,SONDE_SOAK")
	else
		say "not root, and no sudo: tests that load eBPF programs are left out"
	fi
fi

# needs says what need.sh has to provide for a layer.
needs() {
	case $1 in
	lint) echo format ;;
	generated) echo bpf ;;
	unit | kernel | soak) echo race ;;
	script) echo race queries units ;;
	e2e) echo compiler browser shell ;;
	vm) echo vm ;;
	esac
}

# setup installs and builds what the layers need, so that their times are their own.
setup() {
	# shellcheck disable=SC2046 # a list of words, meant to be split
	hack/need.sh certificates $(for layer in "${layers[@]}"; do needs "$layer"; done | sort -u)
	go mod download || die "cannot fetch the Go modules: go needs its module proxy (GOPROXY), or a module cache that has them"
	for layer in "${layers[@]}"; do
		case $layer in
		lint) hack/tool.sh golangci-lint >/dev/null ;;
		unit) hack/tool.sh promtool pint vmalert victoria-metrics prometheus-pushgateway kube >/dev/null ;;
		e2e) hack/tool.sh prometheus nfpm >/dev/null ;;
		esac
	done
}

lint() { hack/lint.sh; }

generated() { hack/generate.sh check; }

# unit: whatever is not a layer of its own below. Crosscheck is a module of its
# own, for it compares with gVisor's own types.
unit() {
	go list ./... | grep -v -E '/(bpf|bench|cmd/sonde|internal/e2e|internal/vmtest)(/|$)' | xargs go test -race
	(cd internal/gvisor/wire/crosscheck && go test ./...)
}

# kernel: real programs in this kernel. One package at a time, never cached:
# they count what the machine does.
# What is in bench measures, so it runs without the race detector.
kernel() {
	go test -race -count 1 -timeout 10m "${root_exec[@]}" ./bpf
	go test -count 1 -p 1 -timeout 10m "${root_exec[@]}" ./bench/...
}

# script: the command line.
script() { go test -race -count 1 "${root_exec[@]}" ./cmd/...; }

# e2e: the built binary, a real Prometheus.
e2e() { go test -count 1 -timeout 10m "${root_exec[@]}" ./internal/e2e/...; }

# vm: the kernel tests again, in other kernels; as many at a time as vmtest boots.
# Verbose, for its table.
vm() { go test -v -count 1 -parallel 3 -timeout 40m ./internal/vmtest; }

# soak: the tests that take hours; everywhere else they skip themselves.
soak() { SONDE_SOAK=1 go test -count 1 -p 1 -timeout 6h -run Soak "${root_exec[@]}" ./...; }

for layer in "${layers[@]}"; do
	case " ${everything[*]} soak " in
	*" $layer "*) ;;
	*) die "there is no layer $layer; there are: ${everything[*]} soak" ;;
	esac
done

failed=() summary=()
begin=$SECONDS
for layer in setup "${layers[@]}"; do
	printf '\n== %s\n' "$layer"
	start=$SECONDS
	# Not inside an "if" or "||", where the inner "set -e" would not hold.
	set +e
	(
		set -e
		"$layer"
	)
	status=$?
	set -e
	case $status in
	0) verdict=ok ;;
	*)
		verdict=FAILED
		failed+=("$layer")
		;;
	esac
	printf '== %s: %s in %d s\n' "$layer" "$verdict" $((SECONDS - start))
	summary+=("$(printf '%-10s %-7s %4d s' "$layer" "$verdict" $((SECONDS - start)))")
	case $layer/$verdict in setup/FAILED) break ;; esac
done

echo
printf '   %s\n' "${summary[@]}"
if [ ${#failed[@]} -gt 0 ]; then
	echo "make test: FAILED: ${failed[*]} (${#layers[@]} layers, $((SECONDS - begin)) s)"
	exit 1
fi
echo "make test: ok (${#layers[@]} layers, $((SECONDS - begin)) s)"

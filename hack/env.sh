# shellcheck shell=bash
# env.sh is sourced by the Makefile's recipes and by every script here. It
# decides where things are kept that are too big or too machine-bound for the
# checkout, also where HOME is unset, as it is for some CI runners.

if [ -z "${HOME:-}" ]; then
	export SONDE_CACHE="${SONDE_CACHE:-/var/tmp/sonde-cache}"
	export HOME="$SONDE_CACHE/home" # Go and the linters keep caches of their own there
fi
export SONDE_CACHE="${SONDE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sonde}"
mkdir -p "$HOME" "$SONDE_CACHE"

# One compiler for everybody: the committed objects are byte for byte what
# Debian 12's clang-16 makes of the C. bpf2go reads these two.
export BPF2GO_CC="${BPF2GO_CC:-clang-16}"
export BPF2GO_STRIP="${BPF2GO_STRIP:-llvm-strip-16}"

say() { printf 'sonde: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}
# c_sources lists our C; the headers in bpf/headers/bpf are libbpf's and stay as they came.
c_sources() { find bpf bench -path bpf/headers/bpf -prune -o -name '*.[ch]' -print; }

have() { command -v "$1" >/dev/null 2>&1; }

have go || {
	[ -x /usr/local/go/bin/go ] && PATH=$PATH:/usr/local/go/bin
} || die "there is no Go on this machine: install Go 1.26 or later from go.dev and put it on PATH"

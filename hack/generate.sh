#!/bin/bash
# generate.sh [check|docs] makes every generated file anew: the eBPF objects
# with their Go bindings, then whatever other packages generate. "docs" leaves
# the objects alone and needs no clang. "check" works in a copy of the tree, from
# which the objects have been removed, and fails if the copy then differs from
# the tree; the tree itself stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

# with_objects lists the directories that hold eBPF programs.
with_objects() { find . -name '*.bpf.c' -printf '%h\n' | sort -u; }

objects() { with_objects | xargs -r go generate; }

pages() {
	go list -f '{{.Dir}}' ./... | grep -v -x -F -f <(with_objects | sed "s|^\.|$PWD|") | xargs -r go generate
}

check() {
	local copy
	copy=$(mktemp -d)
	# shellcheck disable=SC2064 # the name as it is now
	trap "rm -rf '$copy'" EXIT
	tar -c --exclude=./.git --exclude=./bin . | tar -x -C "$copy"
	find "$copy" -name '*_bpfe[lb]*.go' -delete -o -name '*_bpfe[lb]*.o' -delete
	(cd "$copy" && objects && pages)
	if ! differences=$(diff -r -u --exclude=.git --exclude=bin . "$copy"); then
		printf '%s\n' "${differences//"$copy"/generated}" | head -n 100 >&2
		die "generated files differ from what is committed: run 'make generate' and commit what it changes"
	fi
}

case ${1:-all} in
docs) pages ;;
all) hack/need.sh certificates bpf && objects && pages ;;
check) hack/need.sh certificates bpf && check ;;
*) die "generate.sh: unknown word $1" ;;
esac

#!/bin/bash
# packages.sh VERSION builds bin/packages/sonde_VERSION_ARCH.deb and .rpm from the
# binary bin/sonde-ARCH, for every architecture that has one. The same commit gives
# the same packages: their times are those of the commit.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

nfpm=$(hack/tool.sh nfpm)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=0
export SOURCE_DATE_EPOCH VERSION=$1 ARCH BINARY
target=${2:-bin/packages}
mkdir -p "$target"
built=0
for ARCH in amd64 arm64; do
	BINARY=bin/sonde-$ARCH
	[ -x "$BINARY" ] || continue
	for kind in deb rpm; do
		"$nfpm" package --config deploy/packages/nfpm.yaml --packager $kind --target "$target" >/dev/null
	done
	built=$((built + 1))
done
[ $built -gt 0 ] || die "there is no bin/sonde-amd64 or bin/sonde-arm64 to pack: make packages builds them first"
say "built $(ls "$target" | tr '\n' ' ')in $target"

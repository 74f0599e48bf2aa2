#!/bin/bash
# image.sh VERSION REVISION builds the container image sonde:VERSION from the binary
# bin/sonde-amd64. The same commit and the same certificate authorities give the same
# image: its times are those of the commit.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
version=$1 revision=$2

hack/need.sh authorities
epoch=$(git log -1 --format=%ct 2>/dev/null) || epoch=0
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
tag=sonde:${version//[^A-Za-z0-9_.-]/-} # a version may hold a plus sign, a tag may not

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -D -m 0755 bin/sonde-amd64 "$context/root/usr/bin/sonde"
# Debian's authorities, and none that this machine has been given besides.
mkdir -p "$context/root/etc/ssl/certs"
cat /usr/share/ca-certificates/mozilla/*.crt >"$context/root/etc/ssl/certs/ca-certificates.crt"
find "$context/root" -type d -exec chmod 0755 {} +
chmod 0644 "$context/root/etc/ssl/certs/ca-certificates.crt"
find "$context/root" -exec touch -h -d "@$epoch" {} +

build=(--file deploy/Containerfile --tag "$tag" --platform linux/amd64
	--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created")
if have podman; then
	podman build --quiet --layers=false --identity-label=false --timestamp "$epoch" "${build[@]}" "$context"
elif have buildah; then
	buildah build --quiet --layers=false --identity-label=false --timestamp "$epoch" "${build[@]}" "$context"
elif have docker && docker info >/dev/null 2>&1; then
	SOURCE_DATE_EPOCH=$epoch docker build --quiet "${build[@]}" "$context"
else
	die "no image is built, because this machine has nothing that builds one: install podman (apt-get install podman), or start Docker"
fi
say "built $tag"

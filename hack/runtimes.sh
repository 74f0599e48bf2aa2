#!/bin/bash
# runtimes.sh prints a directory that holds Debian's containerd, runc and podman
# with what they need beside this machine's own libraries, unpacked and not
# installed: no service starts, and nothing outside of the directory knows of them.
# It is fetched once and kept outside the checkout.
#
#	PATH=$dir/usr/sbin:$dir/usr/bin LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

packages=(containerd runc podman conmon busybox-static libgpgme11 libassuan0 libgpg-error0 libsubid4)
architecture=$(dpkg --print-architecture 2>/dev/null) || die "the container runtimes cannot be fetched: this is no Debian"
runtimes=$SONDE_CACHE/runtimes/$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")-$architecture

mkdir -p "$SONDE_CACHE/runtimes"
# Tests of several packages may ask at once; one fetches, the others wait.
exec 9>"$SONDE_CACHE/runtimes/.lock"
flock 9
if [ ! -e "$runtimes" ]; then
	work=$(mktemp -d "$SONDE_CACHE/runtimes/new.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	mkdir "$work/debs" "$work/root"
	say "fetching ${packages[*]}, once for this machine"
	(cd "$work/debs" && apt-get -qq download "${packages[@]}") 2>/dev/null ||
		{ apt-get -qq update >/dev/null 2>&1 || true; (cd "$work/debs" && apt-get -qq download "${packages[@]}"); } ||
		die "the container runtimes cannot be fetched (apt-get's words are above): give this machine a Debian 12 mirror"
	for deb in "$work"/debs/*.deb; do
		dpkg-deb -x "$deb" "$work/root"
	done
	mv "$work/root" "$runtimes"
fi
echo "$runtimes"

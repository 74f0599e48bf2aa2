#!/bin/bash
# need.sh CAPABILITY... makes sure that this machine can do what the calling
# step needs, and installs the Debian packages that are missing, all at once.
# It says what it installs and why; where it cannot, it fails with one sentence
# that names the thing and the remedy.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

packages=() reasons=()

# want PACKAGES REASON notes packages to be installed.
want() {
	# shellcheck disable=SC2206 # a list of package names, meant to be split
	packages+=($1)
	reasons+=("$1 ($2)")
}

for capability in "$@"; do
	case $capability in
	certificates)
		[ -n "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}" ] || [ -s /etc/ssl/certs/ca-certificates.crt ] ||
			want ca-certificates "Go fetches modules over HTTPS"
		;;
	authorities)
		[ -d /usr/share/ca-certificates/mozilla ] || want ca-certificates "the image carries its certificate authorities"
		;;
	race)
		have gcc && echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 ||
			want "gcc libc6-dev" "Go's race detector links with C"
		;;
	bpf)
		have clang-16 && have llvm-strip-16 ||
			want "clang-16 llvm-16" "they compile the eBPF programs"
		# clang has the BPF target but no kernel interface headers of its own.
		[ -e /usr/include/linux/bpf.h ] ||
			want linux-libc-dev "the eBPF programs include linux/*.h"
		;;
	format)
		have clang-format-16 || want clang-format-16 "it checks the layout of the C"
		;;
	shell) have busybox || want busybox-static "the scripts of the packages run with it" ;;
	queries) have jq || want jq "logs are asked with it what operators ask them" ;;
	compiler)
		have gcc && echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 ||
			want "gcc libc6-dev" "a program in C is profiled"
		;;
	browser)
		have chromium || want chromium "the pages that show profiles draw themselves in a browser"
		;;
	units) have systemd-analyze || want systemd "it judges the unit" ;;
	vm)
		have qemu-system-x86_64 || want qemu-system-x86 "it boots the other kernels"
		[ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 ||
			want busybox-static "it is the user space of the other kernels"
		have xz || want xz-utils "kernel modules are compressed with it"
		;;
	*) die "need.sh: unknown capability $capability" ;;
	esac
done

[ ${#packages[@]} -gt 0 ] || exit 0
list=$(IFS=';' && echo "${reasons[*]}" | sed 's/;/, /g')

have apt-get || die "needs $list and finds no apt-get: install them by this system's own means"
root=()
if [ "$(id -u)" != 0 ]; then
	have sudo || die "needs $list: run as root, or install ${packages[*]} first"
	root=(sudo)
fi

say "installing $list"
# The update may complain about a source that this machine cannot reach and that
# has nothing to do with us; whether it was enough, the install tells.
"${root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null 2>&1 || true
if ! log=$("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
	install --no-install-recommends "${packages[@]}" 2>&1 </dev/null); then
	printf '%s\n' "$log" | tail -20 >&2
	die "cannot install ${packages[*]} with apt-get (its words are above): install them by hand, or give this machine a Debian 12 mirror"
fi

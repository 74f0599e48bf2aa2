#!/bin/bash
# kernel.sh SUITE PACKAGE prints a directory that holds the Debian kernel which
# PACKAGE (a metapackage) now stands for in SUITE: vmlinuz, config, release, and
# modules/ with what the tests load, numbered in load order. It is fetched once
# and kept outside the checkout.
#
# The mirror and the keys are the ones this machine is configured with; only the
# suite differs, and its index is kept apart from the machine's own apt.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

suite=$1 package=$2
modules=(inet_diag tcp_diag udp_diag veth dummy overlay)
kernel=$SONDE_CACHE/kernels/$suite-$package-${#modules[@]} # another list is another kernel
if [ -s "$kernel/release" ]; then
	echo "$kernel"
	exit
fi
have apt-get || die "kernel $package of $suite cannot be fetched: there is no apt-get"

work=$(mktemp -d "$SONDE_CACHE/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,lists/partial,archives/partial,debs,root,out/modules}
: >"$work/status"

# The new suite is asked of the mirror that serves this machine's own release;
# security suites live in an archive of their own.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
case $suite in
*-security) like=$codename-security ;;
*) like=$codename ;;
esac
mirror=$(apt-get update --print-uris | sed -n "s|^'\\(.*\\)/dists/$like/InRelease'.*|\\1|p" | head -n 1)
[ -n "$mirror" ] || die "kernel $package of $suite cannot be fetched: apt has no Debian mirror with $like configured"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

cat >"$work/sources/kernel.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Architectures: amd64
Signed-By: $keyring
END
cat >"$work/apt.conf" <<END
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$work/sources";
Dir::State::Lists "$work/lists";
Dir::State::Status "$work/status";
Dir::Cache "$work";
Dir::Cache::Archives "$work/archives";
APT::Architecture "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
END
export APT_CONFIG=$work/apt.conf

apt-get -qq update || die "kernel $package of $suite cannot be fetched: the mirror does not serve that suite"
# The metapackage leads to the image; from 7.x on the image is split over
# linux-binary, linux-modules and a linux-base of the same version.
mapfile -t packages < <(apt-cache depends --recurse --important "$package" |
	grep -E '^linux-(image|binary|modules|base)-[0-9]' | sort -u)
[ ${#packages[@]} -gt 0 ] || die "kernel $package of $suite cannot be fetched: the suite has no such package"
(cd "$work/debs" && apt-get -qq download "${packages[@]}") ||
	die "kernel $package of $suite cannot be fetched: the mirror lists ${packages[*]} but does not deliver"
for deb in "$work"/debs/*.deb; do
	dpkg-deb -x "$deb" "$work/root"
done

# Two layouts: boot/ and lib/modules/RELEASE/, or all under usr/lib/modules/RELEASE/.
shopt -s nullglob
images=("$work"/root/boot/vmlinuz-* "$work"/root/usr/lib/modules/*/vmlinuz)
configs=("$work"/root/boot/config-* "$work"/root/usr/lib/modules/*/config)
trees=("$work"/root/lib/modules/* "$work"/root/usr/lib/modules/*)
[ ${#images[@]} = 1 ] && [ ${#trees[@]} = 1 ] ||
	die "kernel $package of $suite cannot be used: ${packages[*]} hold ${#images[@]} images and ${#trees[@]} module trees"
cp "${images[0]}" "$work/out/vmlinuz"
[ ${#configs[@]} = 0 ] || cp "${configs[0]}" "$work/out/config"

number=10
for module in "${modules[@]}"; do
	found=$(find "${trees[0]}" -name "$module.ko*" | head -n 1)
	case $found in
	*.ko) cp "$found" "$work/out/modules/$number-$module.ko" ;;
	*.ko.xz) xz -dc "$found" >"$work/out/modules/$number-$module.ko" ;;
	esac
	number=$((number + 1))
done
basename "${trees[0]}" >"$work/out/release"

mkdir -p "$SONDE_CACHE/kernels"
rm -rf "$kernel"
mv "$work/out" "$kernel"
echo "$kernel"

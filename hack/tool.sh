#!/bin/bash
# tool.sh NAME... prints the path of each program. Those that a go.mod under
# internal/tools pins are built once per version and kept outside the checkout:
# the build takes minutes from nothing. Those that come from Debian are unpacked
# beside them, not installed: installed, they would start services.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

# pinned DIRECTORY MODULE prints the version that the go.mod there requires.
pinned() {
	awk -v module="$2" '$1 == module { print $2 } $1 == "require" && $2 == module { print $3 }' "$1/go.mod"
}

# build NAME VERSION DIRECTORY PACKAGE GO-BUILD-ARGUMENT... prints where the program is.
build() {
	local name=$1 version=$2 directory=$3 package=$4
	local path=$SONDE_CACHE/bin/$name-$version
	shift 4
	# Tests of several packages may ask at once; one builds, the others wait.
	exec 9>"$SONDE_CACHE/bin/.lock"
	flock 9
	if [ ! -x "$path" ]; then
		say "building $name $version, once for this machine"
		(cd "$directory" && CGO_ENABLED=0 GOWORK=off go build -trimpath "$@" -o "$path.new" "$package") 2>&1 |
			{ grep -v '^go: downloading ' >&2 || true; } ||
			die "cannot build $name $version (go's words are above): it needs the Go module proxy, or a copy of the program as $path"
		mv "$path.new" "$path"
	fi
	exec 9>&-
	echo "$path"
}

# unpack NAME PACKAGE prints where the program NAME of a Debian package is.
unpack() {
	local name=$1 package=$2 path=$SONDE_CACHE/debian/usr/bin/$1 work
	if have "$name"; then
		command -v "$name"
		return
	fi
	if [ ! -x "$path" ]; then
		say "unpacking Debian's $package, once for this machine"
		work=$(mktemp -d)
		(cd "$work" && download "$package") ||
			die "cannot fetch Debian's package $package (apt's words are above): install it, or give this machine a Debian 12 mirror"
		mkdir -p "$SONDE_CACHE/debian"
		dpkg-deb -x "$work"/*.deb "$SONDE_CACHE/debian"
		rm -r "$work"
	fi
	echo "$path"
}

# download PACKAGE fetches into the working directory; the first try fails where
# no index has been fetched yet.
download() {
	apt-get -qq -o APT::Sandbox::User=root download "$1" 2>/dev/null && return
	apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null 2>&1 || true
	apt-get -qq -o APT::Sandbox::User=root download "$1"
}

mkdir -p "$SONDE_CACHE/bin"
for name in "$@"; do
	case $name in
	prometheus | promtool)
		module=github.com/prometheus/prometheus
		version=$(pinned internal/tools $module) # v0.315.0 is Prometheus 3.15.0
		minor=${version#v0.} && patch=${minor#*.} && minor=${minor%%.*}
		# remove_all_sd leaves out the cloud SDKs, which are most of the build.
		build "$name" "$version" internal/tools $module/cmd/"$name" -tags remove_all_sd \
			-ldflags "-s -w -X github.com/prometheus/common/version.Version=3.$((minor - 300)).$patch"
		;;
	golangci-lint)
		module=github.com/golangci/golangci-lint/v2
		version=$(pinned internal/tools/lint $module)
		build "$name" "$version" internal/tools/lint $module/cmd/golangci-lint -ldflags "-s -w"
		;;
	kube) # our own, around Helm's engine: its version is that of its source
		version=$(cat internal/tools/kube/{go.mod,go.sum,main.go} | sha256sum | cut -c1-12)
		build "$name" "$version" internal/tools/kube . -ldflags "-s -w"
		;;
	nfpm)
		module=github.com/goreleaser/nfpm/v2
		build "$name" "$(pinned internal/tools/nfpm $module)" internal/tools/nfpm $module/cmd/nfpm -ldflags "-s -w"
		;;
	pint)
		module=github.com/cloudflare/pint
		version=$(pinned internal/tools/pint $module)
		build "$name" "$version" internal/tools/pint $module/cmd/pint -ldflags "-s -w"
		;;
	vmalert) unpack "$name" victoria-metrics ;;
	victoria-metrics | prometheus-pushgateway) unpack "$name" "$name" ;;
	*) die "tool.sh: no such tool: $name" ;;
	esac
done

#!/bin/bash
# screenshots.sh [SECONDS] runs the demo for a while and takes a picture of each
# dashboard with Chromium: docs/images/*.png. A panel that shows an error fails it.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
hack/need.sh browser

seconds=${1:-180} port=${DEMO_PORT:-9090}
profile=$(mktemp -d)
hack/demo.sh &
demo=$!
# shellcheck disable=SC2064 # the names as they are now
trap "kill $demo 2>/dev/null; wait; rm -rf '$profile'" EXIT
until curl -sf -o /dev/null "http://127.0.0.1:$port/-/ready"; do
	kill -0 $demo || die "the demo has ended"
	sleep 1
done
say "letting the demo run for $seconds s"
sleep "$seconds"

browser() {
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking \
		--user-data-dir="$profile" --virtual-time-budget=20000 "$@" 2>/dev/null
}

mkdir -p docs/images
for file in dashboards/json/*.json; do
	name=$(basename "$file" .json)
	page="http://localhost:$port/user/index.html?d=$name&range=300"
	if browser --dump-dom "$page" | grep -o 'data-state="error"' >/dev/null; then
		die "dashboard $name has a panel with an error: $page"
	fi
	browser --window-size=1500,1100 --screenshot="docs/images/$name.png" "$page"
done

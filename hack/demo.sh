#!/bin/bash
# demo.sh shows this machine on the dashboards: it runs the sensor, a Prometheus with
# the rules, something to count, and a page that draws the dashboards, until Ctrl-C.
# Everything listens on loopback and is gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

port=${DEMO_PORT:-9090}
sensor=127.0.0.1:${DEMO_SENSOR_PORT:-9743}
prometheus=$(hack/tool.sh prometheus)
work=$(mktemp -d)
running=()

finish() {
	trap - EXIT INT TERM
	for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait
	rm -rf "$work" "/sys/fs/bpf/sonde-demo-$$"
}
trap finish EXIT
trap 'exit 0' INT TERM

# ready URL NAME waits until something answers there.
ready() {
	for _ in $(seq 150); do
		curl -sf -o "$work/answer" "$1" && return
		sleep 0.2
	done
	die "$2 did not get ready; its log is $(cat "$work/$2.log")"
}

cat >"$work/prometheus.yml" <<EOF
global: {scrape_interval: 5s, evaluation_interval: 5s}
rule_files: [$PWD/alerts/rules.yml]
scrape_configs:
  - job_name: sonde
    scrape_native_histograms: true
    static_configs: [{targets: ["$sensor"]}]
EOF
mkdir "$work/page"
cp -r hack/demo/. dashboards/json "$work/page"

bin/sonde run --web.listen-address="$sensor" --web.dashboards-url="http://localhost:$port/user/index.html" \
	--introspect.listen-address="unix://$work/introspect.sock" --grpc.listen-address="unix://$work/tetragon.sock" --grpc.info-file="$work/info.json" \
	--run.dir="$work" --state.dir="$work/state" --bpf.pin-dir="/sys/fs/bpf/sonde-demo-$$" --config.file=hack/demo/sonde.yaml >"$work/sensor.log" 2>&1 &
running+=($!)
"$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="127.0.0.1:$port" \
	--web.user-assets="$work/page" --log.level=warn >"$work/prometheus.log" 2>&1 &
running+=($!)
ready "http://$sensor/readyz" sensor
ready "http://127.0.0.1:$port/-/ready" prometheus

# workload: processes, connections, and calls that fail, a few times a second.
workload() {
	while :; do
		curl -s -o /dev/null "http://127.0.0.1:$port/api/v1/query?query=up" || true
		(: </dev/tcp/127.0.0.1/1) 2>/dev/null || true
		ls /nowhere >/dev/null 2>&1 || true
		sleep 0.2
	done
}
workload &
running+=($!)

cat <<EOF

  dashboards  http://localhost:$port/user/index.html
  the sensor  http://${sensor/127.0.0.1/localhost}/
  Prometheus  http://localhost:$port/alerts

Graphs fill within a minute. For Grafana, provision deploy/grafana with the
data source http://localhost:$port (docs/dashboards.md). Ctrl-C ends everything.
EOF
wait

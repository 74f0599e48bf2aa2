#!/bin/bash
# as-root.sh COMMAND... runs the command as root: directly, or through sudo.
set -euo pipefail
if [ "$(id -u)" = 0 ]; then
	exec "$@"
elif command -v sudo >/dev/null; then
	echo "sonde: loading eBPF programs needs root: using sudo" >&2
	exec sudo "$@"
fi
echo "sonde: loading eBPF programs needs root and this machine has no sudo: become root and try again" >&2
exit 1

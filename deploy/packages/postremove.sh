#!/bin/sh
# When everything is to go: a purged deb, an erased rpm.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
case "$1" in
purge | 0) rm -rf /var/lib/sonde /var/log/sonde /run/sonde ;;
esac

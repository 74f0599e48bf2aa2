#!/bin/sh
# Before the last version goes, it ends, and takes out of the kernel what outlives it:
# pinned programs, sockets, its own files in /var/lib/sonde.
set -e
case "$1" in remove | purge | 0) ;; *) exit 0 ;; esac # an upgrade
if [ -d /run/systemd/system ]; then
	systemctl disable --now sonde.socket sonde.service || true
fi
/usr/bin/sonde cleanup || true

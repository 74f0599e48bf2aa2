#!/bin/sh
# Process 1 of the guest: makes the machine that the tests expect, runs each
# suite, says how it went on the second serial port, and powers off.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TMPDIR=/tmp SONDE_TEST_VM=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /tmp /run /dev/shm; do
	mount -t tmpfs tmpfs $dir
done
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
# The source is named after the type: libraries look for it in /proc/mounts.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in memory pids cpu; do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
for module in /mods/*.ko; do
	[ -f "$module" ] && { insmod "$module" || echo "@@NOTE cannot load $module" >/dev/ttyS1; }
done
ip link set lo up
hostname guest
ulimit -n 65536

# Ends of lines as the tests wrote them.
stty -F /dev/ttyS1 raw 2>/dev/null
exec >/dev/ttyS1 2>&1

echo "@@INIT $(uname -r) $(cut -d' ' -f1 /proc/uptime)"
verdict=0
for dir in /tests/*; do
	cd "$dir" || exit
	echo "@@SUITE ${dir##*/}"
	# Short: emulated, a program takes up to a second to load. The kernel's command
	# line may pick tests of bpf, sonde.run=REGEXP.
	run=
	[ "${dir##*/}" = bpf ] && run=$(sed -n 's/.*sonde\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
	./test -test.v -test.short -test.timeout=800s ${run:+-test.run="$run"}
	status=$?
	echo "@@STATUS $status"
	[ $status = 0 ] || verdict=$status
done
echo "@@EXIT $verdict"
poweroff -f

package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// MachineOptions say what to ask of the machine.
type MachineOptions struct {
	Root, Proc, Sys string   // where the host's root, procfs and sysfs are mounted
	Release         string   // of the kernel
	Dirs            []string // that belong to the sensor: they are listed
	Unit            string   // of systemd, such as "sonde.service"
	Cloud           bool     // it may be asked for its metadata service
}

// Machine is what is asked of the machine. Nothing of it needs a tool that may be
// missing, but where only a tool knows. Arguments and environments of processes are
// never read.
func Machine(o MachineOptions) []Item {
	root := func(path string) string { return filepath.Join(o.Root, path) }
	proc := func(path string) string { return filepath.Join(o.Proc, path) }
	sys := func(path string) string { return filepath.Join(o.Sys, path) }
	return []Item{
		{Name: "machine/kernel.txt", Collect: kernel(proc)},
		{Name: "machine/os-release.txt", Collect: first(root("etc/os-release"), root("usr/lib/os-release"))},
		{Name: "machine/kernel-config.txt", Collect: first(root("boot/config-"+o.Release), proc("config.gz"), root("lib/modules/"+o.Release+"/config"))},
		{Name: "machine/firmware.txt", Collect: files(sys("class/dmi/id/sys_vendor"), sys("class/dmi/id/product_name"), sys("class/dmi/id/bios_*"))},
		{Name: "machine/sysctl.txt", Collect: files(
			proc("sys/kernel/unprivileged_bpf_disabled"), proc("sys/kernel/bpf_stats_enabled"), proc("sys/kernel/perf_event_paranoid"),
			proc("sys/kernel/kptr_restrict"), proc("sys/kernel/pid_max"), proc("sys/net/core/bpf_jit_*"))},
		{Name: "machine/security.txt", Collect: files(
			sys("kernel/security/lsm"), sys("kernel/security/lockdown"), sys("fs/selinux/enforce"), proc("self/attr/current"), root("etc/selinux/config"))},
		{Name: "machine/selinux.txt", Collect: command("sestatus")},
		{Name: "machine/btf.txt", Collect: listing(sys("kernel/btf"))},
		{Name: "machine/memory.txt", Collect: files(proc("meminfo"), proc("pressure/*"))},
		{Name: "machine/load.txt", Collect: files(proc("loadavg"), proc("uptime"), proc("stat"))},
		{Name: "machine/processes.txt", Collect: processes(o.Proc)},
		{Name: "machine/limits.txt", Collect: files(proc("self/limits"))},
		{Name: "machine/mounts.txt", Collect: files(proc("self/mountinfo"))},
		{Name: "machine/disk.txt", Collect: disk(o.Proc)},
		{Name: "machine/io.txt", Collect: twice(time.Second, files(proc("diskstats")))},
		{Name: "machine/cgroups.txt", Collect: files(proc("self/cgroup"), proc("cgroups"), sys("fs/cgroup/cgroup.controllers"))},
		{Name: "machine/namespaces.txt", Collect: links(proc("self/ns/*"))},
		{Name: "machine/dmesg.txt", Collect: dmesg(root("dev/kmsg"))},
		{Name: "machine/metadata-service.txt", Collect: metadataService(o.Cloud)},
		{Name: "machine/systemd.txt", Collect: command("systemctl", "--version")},
		{Name: "machine/runtime.txt", Collect: either(command("docker", "version"), command("podman", "version"), command("ctr", "version"), command("crictl", "version"))},
		{Name: "service/unit.txt", Collect: command("systemctl", "show", o.Unit)},
		{Name: "service/journal.txt", Collect: command("journalctl", "--no-pager", "--lines=20000", "--unit="+o.Unit)},
		{Name: "service/files.txt", Collect: listing(o.Dirs...)},
	}
}

// SensorProcess is what the kernel tells of the running sensor: capabilities and
// seccomp mode, limits, cgroups, mounts, and the programs and maps that it holds.
func SensorProcess(proc string, pid int) []Item {
	of := func(path string) string { return filepath.Join(proc, strconv.Itoa(pid), path) }
	return []Item{
		{Name: "sensor/process.txt", Collect: files(of("status"), of("limits"), of("cgroup"), of("oom_score_adj"), of("attr/current"))},
		{Name: "sensor/mounts.txt", Collect: files(of("mountinfo"))},
		{Name: "sensor/namespaces.txt", Collect: links(of("ns/*"))},
		{Name: "sensor/bpf.txt", Collect: held(of("fd"), of("fdinfo"))},
	}
}

// kernel says what uname does.
func kernel(proc func(string) string) collector {
	return func(ctx context.Context, w io.Writer) error {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return fmt.Errorf("uname: %w", err)
		}
		for _, field := range [][]byte{u.Sysname[:], u.Nodename[:], u.Release[:], u.Version[:], u.Machine[:]} {
			fmt.Fprintf(w, "%s ", unix.ByteSliceToString(field))
		}
		fmt.Fprintln(w)
		return files(proc("version"))(ctx, w)
	}
}

// twice collects the same before and after a pause: of counters only the difference
// tells anything.
func twice(pause time.Duration, collect collector) collector {
	return func(ctx context.Context, w io.Writer) error {
		if err := collect(ctx, w); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		fmt.Fprintf(w, "==> %v later\n", pause)
		return collect(ctx, w)
	}
}

// links lists where symbolic links lead.
func links(pattern string) collector {
	return func(_ context.Context, w io.Writer) error {
		all, err := filepath.Glob(pattern)
		for _, name := range all {
			target, err := os.Readlink(name)
			fmt.Fprintln(w, name, target, errText(err))
		}
		return err
	}
}

// held lists the bpf descriptors of a process with what the kernel says of each.
func held(fds, infos string) collector {
	return func(_ context.Context, w io.Writer) error {
		all, err := os.ReadDir(fds)
		for _, fd := range all {
			target, err := os.Readlink(filepath.Join(fds, fd.Name()))
			if err != nil || !strings.HasPrefix(target, "anon_inode:bpf") {
				continue
			}
			info, err := os.ReadFile(filepath.Join(infos, fd.Name()))
			if _, err := fmt.Fprintf(w, "%s %s %s\n%s\n", fd.Name(), target, errText(err), info); err != nil {
				return err
			}
		}
		return err
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// disk tells the space of every file system, in bytes and inodes.
func disk(proc string) collector {
	return func(_ context.Context, w io.Writer) error {
		mounts, err := procfs.New(procfs.Options{Proc: proc}).SelfMounts()
		if err != nil {
			return err
		}
		fmt.Fprintln(w, "mount type size free inodes inodes_free")
		for _, m := range mounts {
			var s unix.Statfs_t
			if err := unix.Statfs(m.Point, &s); err != nil {
				fmt.Fprintln(w, m.Point, m.Type, err)
				continue
			}
			size := uint64(s.Bsize)
			if _, err := fmt.Fprintln(w, m.Point, m.Type, s.Blocks*size, s.Bavail*size, s.Files, s.Ffree); err != nil {
				return err
			}
		}
		return nil
	}
}

// processes lists every process: what it is called and what it takes, not its
// arguments, which may hold secrets.
func processes(proc string) collector {
	return func(_ context.Context, w io.Writer) error {
		all, err := os.ReadDir(proc)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, "# the fields of /proc/PID/stat, then the executable file")
		for _, entry := range all {
			if _, err := strconv.Atoi(entry.Name()); err != nil {
				continue
			}
			stat, err := os.ReadFile(filepath.Join(proc, entry.Name(), "stat"))
			if err != nil {
				continue // it has ended
			}
			exe, _ := os.Readlink(filepath.Join(proc, entry.Name(), "exe")) // a kernel thread has none
			if _, err := fmt.Fprintf(w, "%s %s\n", bytes.TrimSpace(stat), exe); err != nil {
				return err
			}
		}
		return nil
	}
}

// dmesg reads the kernel's log as far as it goes back, without waiting for more.
func dmesg(path string) collector {
	return func(_ context.Context, w io.Writer) error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		defer unix.Close(fd) //nolint:errcheck // it was only read
		record := make([]byte, 8192)
		for {
			n, err := unix.Read(fd, record)
			switch {
			case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
				return nil
			case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // overwritten meanwhile
				continue
			case err != nil:
				return fmt.Errorf("read %s: %w", path, err)
			}
			if _, err := w.Write(record[:n]); err != nil {
				return err
			}
		}
	}
}

// metadataService tells whether the service of clouds answers, and nothing of what it
// knows. Elsewhere nobody is asked.
func metadataService(cloud bool) collector {
	return func(ctx context.Context, w io.Writer) error {
		if !cloud {
			return fmt.Errorf("the firmware names no cloud: %w", fs.ErrNotExist)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://169.254.169.254/", nil)
		if err != nil {
			return err
		}
		answer, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = fmt.Fprintln(w, answer.Status)
		return err
	}
}

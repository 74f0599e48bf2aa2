package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// parse parses a command line of the verb run.
func parse(t *testing.T, args ...string) *settings {
	t.Helper()
	c := newCLI(io.Discard)
	if _, err := c.app.Parse(append([]string{"run"}, args...)); err != nil {
		t.Fatal(err)
	}
	return c.run
}

// What is not given is taken below --path.rootfs, and shown so.
func TestRootFS(t *testing.T) {
	type paths struct{ Proc, Sys, Cgroup string }
	for _, test := range []struct {
		args []string
		want paths
	}{
		{nil, paths{"/proc", "/sys", ""}},
		{[]string{"--path.rootfs=/host"}, paths{"/host/proc", "/host/sys", ""}},
		{[]string{"--path.rootfs=/r", "--path.procfs=/proc", "--path.cgroupfs=/c"}, paths{"/proc", "/r/sys", "/c"}},
	} {
		s := parse(t, test.args...)
		c, err := s.load()
		if err != nil {
			t.Fatal(err)
		}
		if got := (paths{s.procFS, s.sysFS, s.cgroupFS}); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.args, got, test.want)
		}
		for _, v := range s.values(c) {
			if v.Key == "path.sysfs" && v.Value != test.want.Sys {
				t.Errorf("%v: path.sysfs is shown as %v", test.args, v.Value)
			}
		}
	}
	if _, err := parse(t, "--path.rootfs=host").load(); err == nil {
		t.Error("a relative --path.rootfs is taken")
	}
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sonde.yaml")
	text := "limits: {ringBytes: 1MiB, processes: 2048, threads: 4096}\ncollectors: {tcp: false, udp: false}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SONDE_LIMITS_RING_BYTES", "2MiB")
	t.Setenv("SONDE_LIMITS_PROCESSES", "8192")
	t.Setenv("SONDE_COLLECTOR_UDP", "true")
	t.Setenv("SONDE_STATE_DIR", "/env")
	t.Setenv("SONDE_RUN_DIR", "")
	s := parse(t, "--config.file="+file, "--limits.ring-bytes=4MiB", "--collector.tcp", "--no-collector.drops", "--bpf.pin-dir=/flag")
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range s.values(c) {
		got[v.Key] = fmt.Sprintf("%v %s", v.Value, v.Origin)
	}
	for key, want := range map[string]string{
		"limits.ringBytes": "4MiB flag", "limits.processes": "8192 env", "limits.threads": "4096 file", "limits.containers": "4096 default",
		"collectors.tcp": "true flag", "collectors.udp": "true env", "collectors.drops": "false flag", "collectors.oom": "true default",
		"config.file": file + " flag", "state.dir": "/env env", "run.dir": "/run/sonde default", "bpf.pin-dir": "/flag flag",
	} {
		if got[key] != want {
			t.Errorf("%s: got %q, want %q", key, got[key], want)
		}
	}
}

func TestDisableDefaults(t *testing.T) {
	if _, err := parse(t, "--config.file=/etc/sonde/sonde.yaml").load(); err == nil {
		t.Fatal("a named configuration file that is absent must be an error")
	}
	c, err := parse(t, "--collector.disable-defaults", "--collector.oom").load()
	if err != nil {
		t.Fatal(err)
	}
	for name, on := range c.Collectors {
		if on != (name == "oom") {
			t.Errorf("collector %s: on = %v", name, on)
		}
	}
}

// TestLoadTwice holds a reload to the settings of the start.
func TestLoadTwice(t *testing.T) {
	s := parse(t, "--limits.ring-bytes=4MiB")
	first, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.config()
	if err != nil {
		t.Fatal(err)
	}
	if changed := frozenChanges(first, second); len(changed) > 0 || len(s.listen) != 1 {
		t.Errorf("a reload changes %v, listens on %v", changed, s.listen)
	}
}

func TestOneInstanceAtATime(t *testing.T) {
	dir := t.TempDir()
	first, err := lockInstance(dir, "/pin")
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockInstance(dir, "/pin/../pin/")
	want := fmt.Sprintf("another instance (pid %d) uses /pin/../pin/; stop it or choose another --bpf.pin-dir", os.Getpid())
	if codeOf(err) != exitRunning || err.Error() != want {
		t.Errorf("got %v (%d)", err, codeOf(err))
	}
	other, err := lockInstance(dir, "/elsewhere")
	if err != nil {
		t.Errorf("another pin directory is free: %v", err)
	}
	if err := errors.Join(first.Release(), other.Release()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestOneInstanceAcrossRunDirs: containers that share the BPF file system and not
// /run see each other by the pin directory, which goes with the last of them unless
// something is pinned there.
func TestOneInstanceAcrossRunDirs(t *testing.T) {
	testenv.Root(t)
	fs := t.TempDir()
	if err := unix.Mount("bpf", fs, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(fs, 0); err != nil {
			t.Error(err)
		}
	}()
	pins := filepath.Join(fs, "sonde")
	first, err := lockInstance(t.TempDir(), pins)
	if err != nil {
		t.Fatal(err)
	}
	second := t.TempDir()
	if _, err := lockInstance(second, pins); codeOf(err) != exitRunning || !strings.Contains(err.Error(), "uses "+pins) {
		t.Errorf("got %v (%d)", err, codeOf(err))
	}
	if left, err := os.ReadDir(second); err != nil || len(left) > 0 {
		t.Errorf("the refused one left %v, %v", left, err)
	}
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	again, err := lockInstance(second, pins)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(pins, "oom"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Errorf("with something pinned: %v", err)
	}
	if _, err := os.Stat(pins); err != nil {
		t.Error("what is pinned was removed")
	}
}

// TestLockRace lets many contend for a lock whose file is removed at every
// release: never two may hold it.
func TestLockRace(t *testing.T) {
	dir := t.TempDir()
	var held sync.Mutex
	var wins int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				lock, err := lockInstance(dir, "/pin")
				if err != nil {
					if codeOf(err) != exitRunning {
						t.Error(err)
					}
					continue
				}
				if !held.TryLock() {
					t.Error("two hold the lock")
				} else {
					wins++
					held.Unlock()
				}
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if wins == 0 {
		t.Error("nobody ever got the lock")
	}
}

func TestDiscovery(t *testing.T) {
	dir := t.TempDir()
	if err := withdraw(dir, 1); err != nil {
		t.Errorf("nothing to withdraw is fine: %v", err)
	}
	d := discovery{PID: 42, Version: "1.2.3", Addresses: map[string][]string{"metrics": {"127.0.0.1:9743"}}}
	if err := announce(dir, d); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(discoveryPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	var got discovery
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got); diff != "" {
		t.Error(diff)
	}
	if err := withdraw(dir, 43); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(discoveryPath(dir)); err != nil {
		t.Error("the file of another process was removed")
	}
	if err := withdraw(dir, 42); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// fakeMachine is a machine with the given capabilities and lockdown mode.
func fakeMachine(t *testing.T, caps procfs.Capabilities, lockdown string, btf bool) machine {
	t.Helper()
	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/self/status", fmt.Sprintf("CapEff:\t%016x\n", uint64(caps)))
	write("proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
	write("sys/kernel/security/lsm", "lockdown,capability,selinux")
	if lockdown != "" {
		write("sys/kernel/security/lockdown", "none ["+lockdown+"] confidentiality\n")
	}
	if btf {
		write("sys/kernel/btf/vmlinux", "x")
	}
	sys := filepath.Join(dir, "sys")
	return machine{fs: procfs.New(procfs.Options{Proc: filepath.Join(dir, "proc"), Sys: sys}), sys: sys, euid: 1000}
}

func TestExplain(t *testing.T) {
	const all = 1<<41 - 1
	check := func(m machine, errno error, code exitCode, hint string) {
		t.Helper()
		err := m.explain(fmt.Errorf("attach sys_exit: %w", errno), exitProbes)
		if codeOf(err) != code || !strings.Contains(err.Error(), hint) || !errors.Is(err, errno) {
			t.Errorf("%v: got %d %q, want %d …%q", errno, codeOf(err), err, code, hint)
		}
	}
	check(fakeMachine(t, 0, "", true), syscall.EPERM, exitPrivileges,
		"the process lacks CAP_BPF, CAP_PERFMON: run it as root or grant them (kernel.unprivileged_bpf_disabled is 2")
	check(fakeMachine(t, 1<<procfs.CapBPF, "", true), syscall.EPERM, exitPrivileges, "the process lacks CAP_PERFMON:")
	check(fakeMachine(t, all, "integrity", true), syscall.EPERM, exitPolicy, `kernel lockdown is "integrity"`)
	check(fakeMachine(t, all, "none", true), syscall.EPERM, exitPolicy, "a seccomp filter or a security module")
	check(fakeMachine(t, all, "", true), syscall.EACCES, exitPolicy, "(active: lockdown,capability,selinux)")
	check(fakeMachine(t, all, "", false), syscall.ENOENT, exitBTF, "--btf")
	check(fakeMachine(t, all, "", true), syscall.ENOENT, exitProbes, "tracefs is not mounted")
	check(fakeMachine(t, all, "", true), syscall.EMFILE, exitResources, "LimitNOFILE=")
	check(fakeMachine(t, all, "", true), syscall.ENOMEM, exitResources, "memory limit")
	check(fakeMachine(t, all, "", true), syscall.ENOSPC, exitResources, "space ran out")
	check(fakeMachine(t, all, "", true), syscall.EEXIST, exitRunning, "same --bpf.pin-dir")
	check(fakeMachine(t, all, "", true), syscall.Errno(524), exitProbes, "may lack the feature")
	check(fakeMachine(t, all, "", true), errors.New("odd"), exitProbes, "attach sys_exit: odd")

	coded := failf(exitListen, "known")
	if got := fakeMachine(t, all, "", true).explain(coded, exitProbes); !errors.Is(got, coded) {
		t.Errorf("an error that knows its code was changed to %v", got)
	}
}

func TestPrivilegesWarnOfWhatIsLost(t *testing.T) {
	p := &preflight{machine: fakeMachine(t, 1<<procfs.CapBPF|1<<procfs.CapPerfmon, "", true)}
	for release, first := range map[string]string{"5.10.0-30-amd64": "CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_RESOURCE, ", "5.11.0": "CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYSLOG, "} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(p.sys), "proc/sys/kernel/osrelease"), []byte(release+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := p.privileges(); f.Status != statusWarn || !strings.Contains(f.Detail, "CAP_SYS_ADMIN missing: no datagrams") || !strings.HasPrefix(f.Detail, first) {
			t.Errorf("on %s: %+v", release, f)
		}
	}
	p.machine = fakeMachine(t, 1<<procfs.CapSysAdmin|1<<procfs.CapSysPtrace|1<<procfs.CapDACReadSearch, "", true)
	if f := p.privileges(); f.Status != statusOK {
		t.Errorf("CAP_SYS_ADMIN contains the others: %+v", f)
	}
}

func TestStepsTable(t *testing.T) {
	s := newSteps()
	_ = s.Do("config", func() (string, error) { return "/etc/sonde/sonde.yaml", nil })
	_ = s.Do("load", func() (string, error) { return "", errors.New("one\ntwo") })
	for i := range s.steps {
		s.steps[i].Duration = time.Duration(i+1) * 12345 * time.Microsecond
	}
	var out bytes.Buffer
	if err := s.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(out.String(), "\n")
	want := "  config  ok      12.35ms  /etc/sonde/sonde.yaml\n" +
		"  load    FAILED  24.69ms  one\n" +
		"                           two\n"
	if diff := cmp.Diff(want, table); diff != "" {
		t.Error(diff)
	}
}

// TestSupervisor listens where systemd would, on a socket with an abstract name.
func TestSupervisor(t *testing.T) {
	name := fmt.Sprintf("@sonde-test-%d", os.Getpid())
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	told := func() string {
		t.Helper()
		buf := make([]byte, 4096)
		if err := socket.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	file := filepath.Join(t.TempDir(), "termination-log")
	var log bytes.Buffer
	s := supervisor{slog.New(slog.NewTextHandler(&log, nil)), file}
	s.ready("serving on [::]:9743")
	if got := told(); got != "READY=1\nSTATUS=serving on [::]:9743" {
		t.Errorf("%q", got)
	}
	s.stopping()
	if got := told(); got != "STOPPING=1\nSTATUS=stopping" {
		t.Errorf("%q", got)
	}
	reason := fmt.Errorf("listen on :9743: %w\nsecond line", syscall.EADDRINUSE)
	s.ended(reason)
	if got := told(); got != "STATUS=listen on :9743: address already in use; second line\nERRNO=98" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a termination file was made where the container runtime has made none")
	}
	if err := os.WriteFile(file, []byte("an older and longer reason that must go, all of it, every last letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ended(reason)
	if got, err := os.ReadFile(file); err != nil || string(got) != reason.Error() {
		t.Errorf("%q, %v", got, err)
	}
	if log.Len() > 0 {
		t.Error(log.String())
	}
	if err := writeTermination(filepath.Dir(file), "x"); err == nil {
		t.Error("a directory is no termination file")
	}
}

func TestRunnerIsQuietWithoutSupervisor(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log bytes.Buffer
	s := supervisor{slog.New(slog.NewTextHandler(&log, nil)), ""}
	s.ready("x")
	s.ended(errors.New("x"))
	if log.Len() > 0 {
		t.Error(log.String())
	}
}

func TestOriginsOfConfigAgree(t *testing.T) {
	// Every setting with a key names one that exists, so that Set cannot fail on it.
	c := config.New(defaultCollectors(false))
	known := map[string]bool{}
	for _, v := range c.Values() {
		known[v.Key] = true
	}
	for _, f := range parse(t).table {
		if f.key != "" && !known[f.key] {
			t.Errorf("--%s overrides %s, which is no key", f.name, f.key)
		}
		if (f.key == "") == (f.set == nil) {
			t.Errorf("--%s must have a key or a set, and not both", f.name)
		}
		// What help and docs show as the default is the default.
		for _, v := range c.Values() {
			if v.Key == f.key && len(f.preset) == 1 && fmt.Sprint(v.Value) != f.preset[0] {
				t.Errorf("--%s shows the default %s, %s has %v", f.name, f.preset[0], f.key, v.Value)
			}
		}
	}
}

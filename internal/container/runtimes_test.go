package container_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// runtimes is an unpacked set of container runtimes, and a directory for what they
// keep. Everything in it ends with the test.
type runtimes struct {
	root string // of the unpacked packages
	dir  string
	env  []string
}

// newRuntimes fetches the runtimes if need be.
func newRuntimes(t *testing.T) *runtimes {
	t.Helper()
	testenv.Root(t)
	if testing.Short() {
		t.Skip("fetches and starts container runtimes, and -short was asked for")
	}
	script, err := filepath.Abs("../../hack/runtimes.sh")
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(script).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		testenv.Skip(t, fmt.Sprintf("no container runtimes: %s", exit.Stderr))
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &runtimes{root: strings.TrimSpace(string(output))}
	// Not t.TempDir: a socket's path must be short.
	if r.dir, err = os.MkdirTemp("", "sonde-runtimes-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.remove(t) })
	r.env = append(os.Environ(),
		fmt.Sprintf("PATH=%[1]s/usr/sbin:%[1]s/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin", r.root),
		"LD_LIBRARY_PATH="+filepath.Join(r.root, "usr/lib", map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]+"-linux-gnu"),
		"CONTAINERS_CONF="+filepath.Join(r.dir, "containers.conf"),
		"CONTAINERS_STORAGE_CONF="+filepath.Join(r.dir, "storage.conf"))
	return r
}

// remove ends what a runtime that was not stopped in order has left, takes away its
// mounts, then the directory.
func (r *runtimes) remove(t *testing.T) {
	for _, p := range processes(t) {
		if strings.Contains(p.args, r.dir) { // shims and monitors name it
			t.Errorf("left behind: %s", p.args)
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended
		}
	}
	mounts, err := procfs.New(procfs.Options{}).SelfMounts()
	if err != nil {
		t.Error(err)
	}
	for _, m := range slices.Backward(mounts) {
		if strings.HasPrefix(m.Point, r.dir+"/") {
			_ = unix.Unmount(m.Point, unix.MNT_DETACH) // what is left fails the removal
		}
	}
	if err := os.RemoveAll(r.dir); err != nil {
		t.Error(err)
	}
}

func (r *runtimes) path(elem ...string) string { return filepath.Join(r.dir, filepath.Join(elem...)) }

func (r *runtimes) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(r.path(name), []byte(strings.ReplaceAll(text, "DIR", r.dir)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command is a program of the unpacked packages.
func (r *runtimes) command(name string, args ...string) *exec.Cmd {
	for _, bin := range []string{"usr/sbin", "usr/bin"} {
		if path := filepath.Join(r.root, bin, name); exists(path) {
			name = path
			break
		}
	}
	cmd := exec.Command(name, args...)
	cmd.Env = r.env
	return cmd
}

func (r *runtimes) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	output, err := r.command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// daemon starts a program that stays, and returns how to end it and wait.
func (r *runtimes) daemon(t *testing.T, name string, args ...string) (kill func(syscall.Signal)) {
	t.Helper()
	log, err := os.OpenFile(r.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := r.command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is always killed
	}()
	kill = func(s syscall.Signal) {
		_ = cmd.Process.Signal(s) // it may have ended
		<-ended
	}
	t.Cleanup(func() {
		kill(syscall.SIGKILL)
		if t.Failed() {
			text, _ := os.ReadFile(r.path(name + ".log"))
			t.Logf("%s said:\n%s", name, tail(text, 4096))
		}
	})
	return kill
}

func tail(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

func (r *runtimes) busybox(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(r.root, "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// span is for how many seconds the n-th container of a test sleeps: its mark, which
// nothing has that an earlier run left behind.
func span(n int) string { return strconv.Itoa(10*os.Getpid() + n + 100_000) }

// sleeper finds the process that sleeps for so many seconds, as an event shows it.
func sleeper(t *testing.T, seconds string) event.Process {
	t.Helper()
	var found event.Process
	eventually(t, "sleep "+seconds+" runs", func() bool {
		for _, p := range processes(t) {
			if p.args == "/bin/sleep "+seconds {
				found = process(t, p.pid)
				return true
			}
		}
		return false
	})
	return found
}

// command is a process of the machine with its arguments.
type command struct {
	pid  int
	args string
}

func processes(t *testing.T) (all []command) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		line, err := os.ReadFile(f)
		pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
		if err == nil && pid != os.Getpid() {
			all = append(all, command{pid, strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")})
		}
	}
	return all
}

// process returns a process as the kernel side would.
func process(t *testing.T, pid int) event.Process {
	t.Helper()
	files := procfs.New(procfs.Options{})
	stat, err := files.ProcessStat(uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	return event.Process{PID: uint32(pid), TID: uint32(pid), StartNS: stat.Start*procfs.TickNS + 1234, CgroupID: cgroupID(t, pid)}
}

// cgroupID returns the id of the v2 cgroup of a process, 0 on a machine without v2.
func cgroupID(t *testing.T, pid int) uint64 {
	t.Helper()
	files := procfs.New(procfs.Options{})
	path, _, err := files.ProcessCgroups(uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	v2 := cgroupV2()
	if path == "" || v2 == "" {
		return 0
	}
	info, err := os.Stat(filepath.Join(v2, path))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// cgroupV1 returns the id of the cgroup of a process in the tree of a controller.
func cgroupV1(t *testing.T, pid int, tree, controller string) uint64 {
	t.Helper()
	lines, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if !slices.Contains(strings.Split(parts[1], ","), controller) {
			continue
		}
		info, err := os.Stat(filepath.Join(tree, parts[2]))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	t.Fatalf("process %d has no cgroup of controller %s", pid, controller)
	return 0
}

// cgroupV2 returns where the v2 tree is mounted, empty if nowhere.
func cgroupV2() string {
	trees, err := procfs.New(procfs.Options{}).CgroupV2()
	if err != nil || len(trees) == 0 {
		return ""
	}
	return trees[0].Dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// eventually waits for a condition, which is asked for every 20 ms.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

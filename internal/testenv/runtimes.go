package testenv

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

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// Runtimes are Debian's container runtimes, unpacked and not installed, and a directory
// for what they keep. Everything in it ends with the test.
type Runtimes struct {
	root string // of the unpacked packages
	dir  string
	env  []string
}

// NewRuntimes fetches the runtimes if need be.
func NewRuntimes(tb testing.TB) *Runtimes {
	tb.Helper()
	Root(tb)
	if testing.Short() {
		tb.Skip("fetches and starts container runtimes, and -short was asked for")
	}
	output, err := exec.Command(filepath.Join(checkout(tb), "hack", "runtimes.sh")).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		Skip(tb, fmt.Sprintf("no container runtimes: %s", exit.Stderr))
	}
	if err != nil {
		tb.Fatal(err)
	}
	r := &Runtimes{root: strings.TrimSpace(string(output))}
	// Not TempDir: a socket's path must be short.
	if r.dir, err = os.MkdirTemp("", "sonde-runtimes-"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.remove(tb) })
	r.env = append(os.Environ(),
		fmt.Sprintf("PATH=%[1]s/usr/sbin:%[1]s/usr/bin:%[2]s:/usr/sbin:/usr/bin:/sbin:/bin", r.root, os.Getenv("PATH")),
		"LD_LIBRARY_PATH="+filepath.Join(r.root, "usr/lib", map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]+"-linux-gnu"),
		"HOME="+r.dir, // podman's policy is looked for there
		"CONTAINERS_CONF="+filepath.Join(r.dir, "containers.conf"),
		"CONTAINERS_STORAGE_CONF="+filepath.Join(r.dir, "storage.conf"))
	return r
}

// remove ends what a runtime that was not stopped in order has left, takes away its
// mounts, then the directory.
func (r *Runtimes) remove(tb testing.TB) {
	for _, p := range Commands(tb) {
		if strings.Contains(p.Args, r.dir) { // shims and monitors name it
			tb.Errorf("left behind: %s", p.Args)
			_ = syscall.Kill(p.PID, syscall.SIGKILL) // it may have ended
		}
	}
	mounts, err := procfs.New(procfs.Options{}).SelfMounts()
	if err != nil {
		tb.Error(err)
	}
	for _, m := range slices.Backward(mounts) {
		if strings.HasPrefix(m.Point, r.dir+"/") {
			_ = unix.Unmount(m.Point, unix.MNT_DETACH) // what is left fails the removal
		}
	}
	if err := os.RemoveAll(r.dir); err != nil {
		tb.Error(err)
	}
}

// Path returns a path in the directory.
func (r *Runtimes) Path(elem ...string) string { return filepath.Join(r.dir, filepath.Join(elem...)) }

// Program returns where a file of the unpacked packages is, such as "usr/bin/conmon".
func (r *Runtimes) Program(name string) string { return filepath.Join(r.root, name) }

// Write writes a file in the directory; DIR in its text stands for that.
func (r *Runtimes) Write(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.WriteFile(r.Path(name), []byte(strings.ReplaceAll(text, "DIR", r.dir)), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// Command is a program of the unpacked packages, or one of this machine that finds those.
func (r *Runtimes) Command(name string, args ...string) *exec.Cmd {
	for _, bin := range []string{"usr/sbin", "usr/bin"} {
		if path := r.Program(filepath.Join(bin, name)); exists(path) {
			name = path
			break
		}
	}
	cmd := exec.Command(name, args...)
	cmd.Env = r.env
	return cmd
}

// Run runs a Command to its end and returns what it says.
func (r *Runtimes) Run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	output, err := r.Command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// Daemon starts a Command that stays, and returns how to end it and wait.
func (r *Runtimes) Daemon(tb testing.TB, name string, args ...string) (kill func(syscall.Signal)) {
	tb.Helper()
	log, err := os.OpenFile(r.Path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := r.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
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
	tb.Cleanup(func() {
		kill(syscall.SIGKILL)
		if tb.Failed() {
			text, _ := os.ReadFile(r.Path(name + ".log"))
			tb.Logf("%s said:\n%s", name, text[max(0, len(text)-4096):])
		}
	})
	return kill
}

// Busybox returns a static program that is all of a container's user space.
func (r *Runtimes) Busybox(tb testing.TB) []byte {
	tb.Helper()
	program, err := os.ReadFile(r.Program("bin/busybox"))
	if err != nil {
		tb.Fatal(err)
	}
	return program
}

// RemoveCgroups removes empty cgroups that runtimes leave, in every hierarchy.
func RemoveCgroups(tb testing.TB, names ...string) {
	mounts, err := procfs.New(procfs.Options{}).SelfMounts()
	if err != nil {
		tb.Error(err)
	}
	for _, m := range mounts {
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		for _, name := range names {
			for _, dir := range []string{m.Point, filepath.Join(m.Point, "kubepods")} {
				// One that is not empty is somebody else's.
				_ = unix.Rmdir(filepath.Join(dir, name))
			}
		}
	}
}

// Command is a process of the machine, with its arguments separated by blanks.
type Command struct {
	PID  int
	Args string
}

// Commands lists every other process.
func Commands(tb testing.TB) (all []Command) {
	tb.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range files {
		line, err := os.ReadFile(f)
		pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
		if err == nil && pid != os.Getpid() {
			all = append(all, Command{pid, strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")})
		}
	}
	return all
}

// Eventually waits a minute at most for a condition, which is asked for every 20 ms.
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within a minute: %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

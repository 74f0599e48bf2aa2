package bpf

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// hierarchy is one way to tell workloads apart on this machine.
type hierarchy struct {
	name       string
	dir        string
	controller string // of v1
}

// hierarchies returns those that this machine has: at least one.
func hierarchies(t *testing.T) (all []hierarchy) {
	t.Helper()
	trees, err := procfs.New(procfs.Options{}).CgroupV2()
	must(t, "find cgroup v2", err)
	if len(trees) > 0 {
		all = append(all, hierarchy{name: "v2", dir: trees[0].Dir})
	}
	for _, controller := range []string{"pids", "memory"} {
		if dir := "/sys/fs/cgroup/" + controller; isDir(dir + "/release_agent") {
			all = append(all, hierarchy{"v1 " + controller, dir, controller})
			break
		}
	}
	if len(all) == 0 {
		testenv.Skip(t, "needs a cgroup hierarchy")
	}
	return all
}

func isDir(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// group is a cgroup of a test.
type group struct {
	procs string // its file of members
	key   WorkloadKey
}

func (h hierarchy) group(t *testing.T) group {
	t.Helper()
	dir, err := os.MkdirTemp(h.dir, "sonde-test-")
	if err != nil {
		testenv.Skip(t, "needs a cgroup of its own: "+err.Error())
	}
	t.Cleanup(func() { removeGroup(t, dir) })
	g := group{procs: filepath.Join(dir, "cgroup.procs")}
	if h.controller == "" {
		g.key.V2 = inode(t, dir)
		return g
	}
	g.key = WorkloadKey{V2: ownV2(t), V1: inode(t, dir)}
	return g
}

// removeGroup waits for members that are gone and still counted for an instant.
func removeGroup(t *testing.T, dir string) {
	var err error
	for range 300 {
		if err = os.Remove(dir); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var s unix.Stat_t
	must(t, "look at cgroup", unix.Stat(path, &s))
	return s.Ino
}

// ownV2 is the id of this process's own v2 cgroup; 1 is the root's, mounted or not.
func ownV2(t *testing.T) uint64 {
	t.Helper()
	files := procfs.New(procfs.Options{})
	path, _, err := files.ProcessCgroups(uint32(os.Getpid()))
	must(t, "read own cgroup", err)
	trees, err := files.CgroupV2()
	must(t, "find cgroup v2", err)
	if len(trees) == 0 {
		return 1
	}
	return inode(t, filepath.Join(trees[0].Dir, path))
}

// workloads reads all entries.
func workloads(t *testing.T, k *Kernel) map[WorkloadKey]WorkloadStat {
	t.Helper()
	all := map[WorkloadKey]WorkloadStat{}
	must(t, "read workloads", k.Workloads().Read(func(w WorkloadStat) { all[w.Key] = w }))
	return all
}

// What the raw child does, in this order.
type errand struct {
	procs      int // descriptor of the cgroup's file of members
	fails      int // calls that fail
	connects   int
	refusals   int
	bytes      int // sent on each connection
	to, closed unix.RawSockaddrInet4
	exec       *byte // a program to become at the end; nil: none
	argv, env  **byte
}

// send forks a process that joins the cgroup and does the errand, by system calls
// alone: a second thread, or the Go runtime, would make some of its own. The child is
// a copy of one thread of this process, so it must not enter the runtime at all,
// which a check of the stack could make it do.
func (e *errand) send(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.ForkLock.Lock()
	pid, errno := fork(e)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		t.Fatal("fork:", errno)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		must(t, "wait", err)
		break
	}
	if status != 0 {
		t.Fatalf("the child failed at its step %d (%#x)", status.ExitStatus(), status)
	}
}

//go:norace
//go:nosplit
func fork(e *errand) (int, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(do(e)), 0, 0)
	return 0, 0
}

// do returns the number of the step that failed, 0 if none did.
//
//go:norace
//go:nosplit
func do(e *errand) int {
	self := byte('0')
	if _, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(e.procs), uintptr(unsafe.Pointer(&self)), 1); errno != 0 {
		return 1
	}
	for range e.fails {
		if _, _, errno := unix.RawSyscall(unix.SYS_CLOSE, ^uintptr(0), 0, 0); errno != unix.EBADF {
			return 2
		}
	}
	for range e.refusals {
		if connectOnce(&e.closed, 0) != unix.ECONNREFUSED {
			return 3
		}
	}
	for range e.connects {
		if connectOnce(&e.to, e.bytes) != 0 {
			return 4
		}
	}
	if e.exec == nil {
		return 0
	}
	unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(e.exec)), uintptr(unsafe.Pointer(e.argv)), uintptr(unsafe.Pointer(e.env)))
	return 5
}

// scratch is what connectOnce sends and reads into. On the stack it would leave no room
// for the code that a fuzzer adds to what may not look at the stack.
var scratch [256]byte

// connectOnce makes a connection, sends so many bytes, waits for the other side's
// end, and ends its own.
//
//go:norace
//go:nosplit
func connectOnce(to *unix.RawSockaddrInet4, bytes int) unix.Errno {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if errno != 0 {
		return errno
	}
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(to)), unsafe.Sizeof(*to))
	if errno == 0 && bytes > 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&scratch)), uintptr(bytes))
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&scratch)), 1)
	}
	unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	return errno
}

func raw4(port uint16) unix.RawSockaddrInet4 {
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port<<8 | port>>8, Addr: [4]byte{127, 0, 0, 1}}
}

// serveBytes accepts n connections one after the other, takes so many bytes from
// each and ends it.
func serveBytes(t *testing.T, listener, n, bytes int) (done chan error) {
	done = make(chan error, 1)
	go func() {
		for range n {
			fd, _, err := unix.Accept(listener)
			if err != nil {
				done <- err
				return
			}
			buffer := make([]byte, bytes)
			for got := 0; got < bytes; {
				n, err := unix.Read(fd, buffer)
				if err != nil || n == 0 {
					done <- err
					return
				}
				got += n
			}
			unix.Close(fd)
		}
		done <- nil
	}()
	return done
}

// TestWorkloadsCountExactly: what a process does in a cgroup is counted for that
// cgroup, whatever hierarchy it is in, and for no other.
func TestWorkloadsCountExactly(t *testing.T) {
	for _, h := range hierarchies(t) {
		t.Run(h.name, func(t *testing.T) {
			k := newKernel(t, Options{RingBytes: 1 << 16, Controller: h.controller, Workloads: &WorkloadOptions{}})
			newProcesses(t, k, ProcessesOptions{})
			tcp := newTCP(t, k, TCPOptions{MaxSockets: 1024}) // and syscalls
			busy, execs, idle := h.group(t), h.group(t), h.group(t)

			const n, bytes = 20, 100
			listener, port := listen(t, netip.MustParseAddr("127.0.0.1"), n)
			unused, closed := listen(t, netip.MustParseAddr("127.0.0.1"), 1)
			unix.Close(unused)
			done := serveBytes(t, listener, n, bytes)
			e := errand{procs: openProcs(t, busy), fails: 50, refusals: 7, connects: n, bytes: bytes, to: raw4(port), closed: raw4(closed)}
			e.send(t)
			must(t, "serve", <-done)

			e = errand{procs: openProcs(t, execs)}
			e.exec, e.argv, e.env = execNoop(t)
			for range 5 {
				e.send(t)
			}

			want := WorkloadStat{
				Key: busy.key, ConnectionsOpened: n, ConnectionsFailed: 7, SentBytes: n * bytes, SyscallErrors: 50 + 7,
			}
			var got WorkloadStat
			eventually(t, "connections have ended", func() bool {
				tcp.stats(t) // adds the bytes of what is open still
				got = workloads(t, k)[busy.key]
				return got.SentBytes == want.SentBytes
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			all := workloads(t, k)
			if got := all[execs.key]; got.Execs != 5 || got.ConnectionsOpened != 0 || got.ConnectionsFailed != 0 || got.OOMKills != 0 {
				t.Errorf("5 execs: %+v", got)
			}
			if got, ok := all[idle.key]; ok {
				t.Errorf("a cgroup that nobody was in: %+v", got)
			}
			must(t, "forget", k.Workloads().Forget(busy.key))
			if got, ok := workloads(t, k)[busy.key]; ok {
				t.Errorf("forgotten: %+v", got)
			}
		})
	}
}

func openProcs(t *testing.T, g group) int {
	t.Helper()
	fd, err := unix.Open(g.procs, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	must(t, "open cgroup", err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// execNoop is what execve takes to run the act noop.
func execNoop(t *testing.T) (path *byte, argv, env **byte) {
	t.Helper()
	pointers := func(texts ...string) **byte {
		all := make([]*byte, len(texts)+1)
		for i, text := range texts {
			p, err := unix.BytePtrFromString(text)
			must(t, "make argument", err)
			all[i] = p
		}
		return &all[0]
	}
	exe, err := os.Executable()
	must(t, "find test binary", err)
	return *pointers(exe), pointers(exe), pointers("SONDE_TEST_ACT=noop")
}

// TestWorkloadOOMKills: a kill is counted for the cgroup of the victim, once.
func TestWorkloadOOMKills(t *testing.T) {
	procs := smallCgroup(t)
	dir := filepath.Dir(procs)
	o, key := Options{RingBytes: 1 << 16, Workloads: &WorkloadOptions{}}, WorkloadKey{V2: inode(t, dir)}
	if filepath.Base(filepath.Dir(dir)) == "memory" { // v1
		o.Controller, key = "memory", WorkloadKey{V2: ownV2(t), V1: key.V2}
	}
	k := newKernel(t, o)
	newProcesses(t, k, ProcessesOptions{})
	for range 2 {
		starve(t, "eat", procs)
	}
	var got WorkloadStat
	eventually(t, "kills are counted", func() bool {
		got = workloads(t, k)[key]
		return got.OOMKills >= 2
	})
	if got.OOMKills != 2 {
		t.Errorf("two kills: %+v", got)
	}
}

// TestFullWorkloads: what finds the map full is counted, together with others, and
// the sum over all workloads is what the node has done.
func TestFullWorkloads(t *testing.T) {
	h := hierarchies(t)[0]
	k := newKernel(t, Options{RingBytes: 1 << 16, Controller: h.controller, Workloads: &WorkloadOptions{Max: 1}})
	p := newProcesses(t, k, ProcessesOptions{})
	for range 3 {
		e := errand{procs: openProcs(t, h.group(t))}
		e.exec, e.argv, e.env = execNoop(t)
		e.send(t)
	}
	if got := workloads(t, k)[OverflowWorkload].Execs; got < 2 {
		t.Errorf("3 cgroups and room for one: %d execs found it full", got)
	}
	if s := mapStats(t, k)["kernel_workloads"]; s.UpdateFailures < 2 || s.MaxEntries != 2 {
		t.Errorf("map of one workload: %+v", s)
	}
	before := p.mustRead(t).Execs
	var sum uint64
	for _, w := range workloads(t, k) {
		sum += w.Execs
	}
	if after := p.mustRead(t).Execs; sum < before || sum > after || before < 3 {
		t.Errorf("%d execs of workloads, of %d to %d in all", sum, before, after)
	}
}

// TestWorkloadsOff: where they are not counted, no program that is loaded knows of
// them, and no entry of another map is larger for them.
func TestWorkloadsOff(t *testing.T) {
	for _, test := range []struct {
		name, controller string
		workloads        *WorkloadOptions
		used             bool
		socket           uint32 // bytes of a followed socket
	}{
		{"off", "pids", nil, false, 48},
		{"v2", "", &WorkloadOptions{}, true, 48},
		{"v1", "pids", &WorkloadOptions{}, true, 56},
	} {
		if testing.Short() && test.used {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			k := newKernel(t, Options{RingBytes: 1 << 16, Controller: test.controller, Workloads: test.workloads})
			newProcesses(t, k, ProcessesOptions{})
			tcp := newTCP(t, k, TCPOptions{MaxSockets: 1024}) // and syscalls
			if on := k.Workloads() != nil; on != test.used {
				t.Errorf("workloads can be read: %v", on)
			}
			for _, o := range k.objects[len(k.objects)-3:] {
				if used := usesMap(t, o, k.shared["workloads"]); used != test.used {
					t.Errorf("a program of %s uses the map: %v", o.probe, used)
				}
			}
			if got := tcp.obj.coll.Maps["sockets"].ValueSize(); got != test.socket {
				t.Errorf("a followed socket takes %d bytes, want %d", got, test.socket)
			}
		})
	}
}

// usesMap looks for a map in the programs of an object as the verifier left them.
func usesMap(t *testing.T, o *object, m *ebpf.Map) (uses bool) {
	t.Helper()
	info, err := m.Info()
	must(t, "describe map", err)
	id, _ := info.ID()
	for name, p := range o.coll.Programs {
		info, err := p.Info()
		must(t, "describe program "+name, err)
		instructions, err := info.Instructions()
		must(t, "read program "+name, err)
		for _, i := range instructions {
			uses = uses || i.IsLoadFromMap() && uint32(i.Constant) == uint32(id)
		}
	}
	return uses
}

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// actActs maps the file in its argument, makes memory executable, sends itself a
// signal, and loads neither a module nor a BPF program.
func actActs() error {
	file, err := os.Open(os.Getenv("SONDE_TEST_ARG"))
	if err != nil {
		return err
	}
	if _, err := unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE); err != nil {
		return err
	}
	code, err := unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if err := unix.Mprotect(code, unix.PROT_READ); err != nil {
		return err
	}
	if err := unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return err
	}
	if _, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return err
	}
	if err := unix.FinitModule(int(file.Fd()), "", 0); err == nil {
		return errors.New("a file of text was loaded as a module")
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_BPF, 5, 0, 8); errno == 0 {
		return errors.New("nothing was loaded as a BPF program")
	}
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, unix.SIGUSR1) // one that the Go run time does not send itself
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		return err
	}
	<-taken
	return nil
}

func newActs(t *testing.T, k *Kernel) *Acts {
	t.Helper()
	a := NewActs(k)
	must(t, "be ready", a.Ready())
	return a
}

func TestActsAreToldExactly(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		_, err := NewSyscalls(k, SyscallsOptions{})
		must(t, "load syscalls", err)
		library := filepath.Join(t.TempDir(), "library")
		must(t, "write", os.WriteFile(library, make([]byte, 4096), 0o751))
		var st unix.Stat_t
		must(t, "stat", unix.Stat(library, &st))
		runAct(t, "exit", "0") // what the Go runtime tries out at the first child is behind us
		acts := newActs(t, k)
		points := []event.Point{event.ProcessMmap, event.ModuleLoad, event.BPFLoad, event.SignalDeliver}
		all := recordEvents(t, k, func() {
			must(t, "want acts", acts.Want(points))
			must(t, "set points", k.SetPoints(points...))
			if got := runAct(t, "acts", library).ExitStatus(); got != 0 {
				t.Fatalf("the child ended with %d", got)
			}
			program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Name: "harmless", Type: ebpf.SocketFilter, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
			})
			must(t, "load program", err)
			defer program.Close()
			must(t, "want nothing", acts.Want(nil))
		})
		got := map[string]int{}
		for i := range all {
			ev := &all[i]
			f, b, s := &ev.File, &ev.Program, &ev.Signal
			ours := ev.Process.PID != k.Self().PID
			switch {
			case ev.Point == event.ProcessMmap && ours:
				if f.Inode == st.Ino && (uint32(f.Mode) != st.Mode || f.Links != 1 || f.Result%4096 != 0) {
					t.Errorf("mapped file: %+v, mode %o", f, st.Mode)
				}
				got[fmt.Sprintf("mmap %s %d %d %d", ev.Text(event.TextPath), f.Length, f.Prot, f.Inode)]++
			case ev.Point == event.ModuleLoad:
				got[fmt.Sprintf("module %s %v", ev.Text(event.TextPath), f.Result < 0)]++
			case ev.Point == event.BPFLoad && ours:
				got[fmt.Sprintf("bpf %v %d", b.Result < 0, b.ID)]++
			case ev.Point == event.BPFLoad && string(b.Name[:8]) == "harmless":
				got[fmt.Sprintf("bpf %v %v type %d", b.Result >= 0, b.ID > 0, b.Type)]++
			case ev.Point == event.SignalDeliver && ours && s.Sender == ev.Process.PID:
				got[fmt.Sprintf("signal %d %d uid %d", s.Number, s.Code, s.SenderUID)]++
			}
		}
		for want, n := range map[string]int{
			fmt.Sprintf("mmap %s 4096 5 %d", library, st.Ino): 2, // mmap and mprotect
			"mmap  8192 5 0":              1,
			"module " + library + " true": 1,
			"bpf true 0":                  1,
			"bpf true true type 1":        1,
			fmt.Sprintf("signal %d 0 uid %d", unix.SIGUSR1, os.Getuid()): 1,
		} {
			if got[want] != n {
				t.Errorf("%s: told %d times, not %d", want, got[want], n)
			}
		}
		if t.Failed() {
			t.Log(got)
		}
	})
}

// actOpens opens files in the directory of its argument in ways of which some are told.
func actOpens() error {
	dir := os.Getenv("SONDE_TEST_ARG")
	for _, o := range []struct {
		path string
		how  int
	}{
		{filepath.Join(dir, "open"), unix.O_RDONLY}, {filepath.Join(dir, "open"), unix.O_RDWR}, {filepath.Join(dir, "link"), unix.O_RDONLY},
		{filepath.Join(dir, "secret"), unix.O_WRONLY}, {filepath.Join(dir, "secret"), unix.O_PATH}, {filepath.Join(dir, "pipe"), unix.O_RDWR},
		{"/proc/self/comm", unix.O_RDONLY}, {"/proc/self/comm", unix.O_WRONLY},
	} {
		if _, err := unix.Open(o.path, o.how, 0); err != nil {
			return fmt.Errorf("open %s: %w", o.path, err)
		}
	}
	if _, err := unix.Open(filepath.Join(dir, "none"), unix.O_RDONLY, 0); err == nil {
		return errors.New("what is not there was opened")
	}
	_, err := unix.Openat2(unix.AT_FDCWD, filepath.Join(dir, "secret"), &unix.OpenHow{})
	return err
}

// Of opened files those are told of that not everybody may read, and writable settings
// of the kernel; by the file that was opened, not by the name that was given.
func TestOpenedFilesAreToldExactly(t *testing.T) {
	dir := t.TempDir()
	must(t, "write", os.WriteFile(filepath.Join(dir, "open"), nil, 0o644))
	must(t, "write", os.WriteFile(filepath.Join(dir, "secret"), nil, 0o640))
	must(t, "link", os.Symlink("secret", filepath.Join(dir, "link")))
	must(t, "make fifo", unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	secret := filepath.Join(dir, "secret")
	pid := uint32(0)
	all := recordActs(t, func() {
		child := act("opens", dir)
		must(t, "open files", child.Run())
		pid = uint32(child.Process.Pid)
	}, event.FileOpen)
	got := map[string]int{}
	for i := range all {
		if ev, f := &all[i], &all[i].File; ev.Point == event.FileOpen && ev.Process.PID == pid {
			got[fmt.Sprintf("%s %o %v %v", ev.Text(event.TextPath), f.Mode, f.Writable, f.OfKernel)]++
		}
	}
	want := map[string]int{
		secret + " 100640 false false": 2, secret + " 100640 true false": 1,
		fmt.Sprintf("/proc/%d/comm 100644 true true", pid): 1,
	}
	for line, n := range want {
		if got[line] != n {
			t.Errorf("%s: told %d times, not %d", line, got[line], n)
		}
	}
	for line := range got {
		if strings.Contains(line, dir) && want[line] == 0 {
			t.Errorf("%s: told", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// actSetns joins namespaces that it is in already, by themselves and by a process, and
// one that is none.
func actSetns() error {
	runtime.LockOSThread()
	for _, name := range []string{"net", "uts"} {
		fd, err := unix.Open("/proc/self/ns/"+name, unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Setns(fd, 0)
		}
		if err != nil {
			return fmt.Errorf("join %s: %w", name, err)
		}
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = unix.Setns(self, unix.CLONE_NEWIPC|unix.CLONE_NEWUTS)
	}
	if err != nil {
		return fmt.Errorf("join by process: %w", err)
	}
	if err := unix.Setns(0, unix.CLONE_NEWNS); err == nil {
		return errors.New("no namespace was joined")
	}
	return nil
}

func TestJoinedNamespacesAreTold(t *testing.T) {
	all := recordActs(t, func() {
		if got := runAct(t, "setns", "").ExitStatus(); got != 0 {
			t.Fatalf("the child ended with %d", got)
		}
	}, event.ProcessSetns)
	var got []string
	for i := range all {
		s := &all[i].Setns
		if mnt := namespace(t, "mnt"); s.Namespaces.Mnt != mnt {
			t.Errorf("mount namespace %d, want %d", s.Namespaces.Mnt, mnt)
		}
		got = append(got, fmt.Sprintf("%x %v", s.Types, s.Result == 0))
	}
	if want := "[40000000 true 4000000 true c000000 true 20000 false]"; fmt.Sprint(got) != want {
		t.Errorf("told %v, want %s", got, want)
	}
}

// recordActs records the events of a point while do runs.
func recordActs(t *testing.T, do func(), point event.Point) []event.Event {
	t.Helper()
	k := newKernel(t, Options{RingBytes: 1 << 20})
	_, err := NewSyscalls(k, SyscallsOptions{})
	must(t, "load syscalls", err)
	acts := newActs(t, k)
	return recordEvents(t, k, func() {
		must(t, "want acts", acts.Want([]event.Point{point}))
		must(t, "set points", k.SetPoints(point))
		do()
		must(t, "want nothing", acts.Want(nil))
	})
}

func TestOOMKillIsTold(t *testing.T) {
	procs := smallCgroup(t)
	k := newKernel(t, Options{RingBytes: 1 << 20})
	acts := newActs(t, k)
	var pid uint32
	all := recordEvents(t, k, func() {
		must(t, "want acts", acts.Want([]event.Point{event.OOMKill}))
		must(t, "set points", k.SetPoints(event.OOMKill))
		pid = starve(t, "eat", procs)
		must(t, "want nothing", acts.Want(nil))
	})
	told := 0
	for i := range all {
		if all[i].Child.PID == pid {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the victim %d was told of %d times", pid, told)
	}
}

// What is seen at the end of calls needs the probe that sees them, and says so.
func TestActsNeedHooks(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	acts := newActs(t, k)
	objects := len(k.objects)
	if err := acts.Want([]event.Point{event.BPFLoad}); !errors.Is(err, ErrNoHooks) {
		t.Errorf("error %v", err)
	}
	if n := len(k.objects); n != objects {
		t.Errorf("%d objects, %d before", n, objects)
	}
	must(t, "want signals", acts.Want([]event.Point{event.SignalDeliver}))
	must(t, "want nothing", acts.Want(nil))
}

// Of a point whose last program finds no place nothing stays in the kernel.
func TestActsAreToldWholeOrNotAtAll(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	_, err := NewSyscalls(k, SyscallsOptions{})
	must(t, "load syscalls", err)
	acts := newActs(t, k)
	objects := len(k.objects)
	sound := actsOf[event.ModuleLoad]
	t.Cleanup(func() { actsOf[event.ModuleLoad] = sound })
	broken := sound
	broken.calls = append(slices.Clone(sound.calls), hookedCall{syscallTable, "bpf_exit"})
	actsOf[event.ModuleLoad] = broken
	if err := acts.Want([]event.Point{event.ModuleLoad}); err == nil {
		t.Error("a call beyond the table was hooked")
	}
	var bits [syscallTable / 64]uint64
	must(t, "read hook bits", k.hooks.bits.Get(&bits))
	if bits != [len(bits)]uint64{} || len(k.objects) != objects {
		t.Errorf("hooks %x, %d objects, %d before", bits, len(k.objects), objects)
	}
	actsOf[event.ModuleLoad] = sound
	must(t, "want what is sound", acts.Want([]event.Point{event.ModuleLoad}))
	must(t, "want nothing", acts.Want(nil))
}

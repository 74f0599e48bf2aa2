package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// actEat joins the cgroup that it is told, if any, and takes memory until it dies of it.
func actEat() error {
	if procs := os.Getenv("SONDE_TEST_ARG"); procs != "" {
		if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
			return err
		}
	}
	for {
		b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
	}
}

// actSensor attaches the oom probe, pinned in the directory that follows the
// cgroup in its argument, and dies for want of memory.
func actSensor() error {
	procs, dir, _ := strings.Cut(os.Getenv("SONDE_TEST_ARG"), ":")
	k, err := Load(Options{RingBytes: 1 << 16})
	if err != nil {
		return err
	}
	o, err := NewOOM(k, OOMOptions{PinDir: dir})
	if err != nil {
		return err
	}
	if s := o.Status(); strings.Contains(s.Reason, "not pinned") {
		return errors.New(s.Reason)
	}
	os.Setenv("SONDE_TEST_ARG", procs)
	return actEat()
}

const smallMemory = 20 << 20

// smallCgroup makes a memory cgroup with little memory and returns its file of members.
func smallCgroup(t *testing.T) string {
	t.Helper()
	return filepath.Join(testenv.MemoryCgroup(t, smallMemory), "cgroup.procs")
}

// starve runs an act that must die of SIGKILL and returns its pid.
func starve(t *testing.T, name, arg string) uint32 {
	t.Helper()
	cmd := act(name, arg)
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != unix.SIGKILL {
		t.Fatalf("%s ended with %v", name, cmd.ProcessState)
	}
	return uint32(cmd.Process.Pid)
}

// privatePins is a pin directory in a BPF file system that the probe mounts itself.
func privatePins(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	mount := filepath.Join(t.TempDir(), "bpf")
	dir := filepath.Join(mount, "sonde")
	t.Cleanup(func() {
		if _, err := RemovePins(dir); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(mount, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Error("unmount:", err)
		}
	})
	return dir
}

func newOOM(t *testing.T, k *Kernel, opts OOMOptions) *OOM {
	t.Helper()
	o, err := NewOOM(k, opts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// newPinnedOOM insists on the pins.
func newPinnedOOM(t *testing.T, k *Kernel, dir string) *OOM {
	t.Helper()
	o := newOOM(t, k, OOMOptions{PinDir: dir})
	if s := o.Status(); !s.Attached || s.Reason != "" {
		t.Fatalf("status: %+v", s)
	}
	return o
}

// total returns the number of all kills.
func (o *OOM) total(t *testing.T) (n uint64) {
	t.Helper()
	stats, err := o.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stats {
		n += s.Count
	}
	return n
}

// killsOf returns what is remembered of the kills of one process.
func (o *OOM) killsOf(t *testing.T, pid uint32) (of []OOMKill) {
	t.Helper()
	kills, err := o.Kills()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kills {
		if k.PID == pid {
			of = append(of, k)
		}
	}
	return of
}

// kernelKills is the kernel's own count of OOM kills on the node, the measure.
func kernelKills(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			must(t, "parse "+line, err)
			return n
		}
	}
	t.Fatal("no oom_kill in /proc/vmstat")
	return 0
}

// oneKill checks that a process was counted once, and how.
func oneKill(t *testing.T, o *OOM, pid uint32, victim, scope string) OOMKill {
	t.Helper()
	kills := o.killsOf(t, pid)
	if len(kills) != 1 {
		t.Fatalf("process %d was killed %d times: %+v", pid, len(kills), kills)
	}
	if k := kills[0]; k.Victim != victim || k.Scope != scope {
		t.Errorf("victim %q in scope %q, want %q in %q", k.Victim, k.Scope, victim, scope)
	}
	return kills[0]
}

// Real kills of real processes, whose threads the kernel marks as often as it likes.
func TestOOMKillsCountExactly(t *testing.T) {
	run := func(t *testing.T, k *Kernel, opts OOMOptions) {
		o := newOOM(t, k, opts)
		_, e := recordProcesses(t, k, ProcessesOptions{})
		kernel, ours := kernelKills(t), o.total(t)
		var pids []uint32
		for range 3 {
			pids = append(pids, starve(t, "eat", smallCgroup(t)))
		}
		if kernel, ours = kernelKills(t)-kernel, o.total(t)-ours; kernel != ours {
			t.Errorf("counted %d kills of %d", ours, kernel)
		}
		all := stop(t, k, e)
		needAllRuns(t, k)
		for _, pid := range pids {
			kill := oneKill(t, o, pid, "other", "cgroup")
			if kill.Anon < smallMemory/2 || kill.Anon > 2*smallMemory || kill.CgroupLimit != smallMemory ||
				kill.CgroupUsage < smallMemory*9/10 || kill.CgroupUsage > smallMemory*11/10 || kill.Comm != "exe" {
				t.Errorf("kill of a process with %d bytes: %+v", smallMemory, kill)
			}
			checkOOMExit(t, all, kill)
		}
	}
	eachKind(t, func(t *testing.T, k *Kernel) { run(t, k, OOMOptions{}) })
	t.Run("scope inferred", func(t *testing.T) { run(t, newKernel(t, Options{}), OOMOptions{noKallsyms: true}) })
}

// checkOOMExit looks for the one exit of a killed process.
func checkOOMExit(t *testing.T, all []event.Event, kill OOMKill) {
	t.Helper()
	var exits []event.Exit
	for _, ev := range all {
		if ev.Point == event.ProcessExit && ev.Process.PID == kill.PID && ev.Process.StartNS == kill.StartNS {
			ev.Exit.LifetimeNS = 0
			exits = append(exits, ev.Exit)
		}
	}
	if diff := cmp.Diff([]event.Exit{{Signal: uint8(unix.SIGKILL), OOMKilled: true}}, exits); diff != "" {
		t.Errorf("exits of process %d (-want +got):\n%s", kill.PID, diff)
	}
}

// A process that is killed like any other is no victim of the OOM killer.
func TestOOMIgnoresOtherKills(t *testing.T) {
	k := newKernel(t, Options{})
	o := newOOM(t, k, OOMOptions{})
	cmd := startAct(t, "sleep", "1m")
	cmd.Process.Kill()
	cmd.Wait()
	if kills := o.killsOf(t, uint32(cmd.Process.Pid)); len(kills) != 0 {
		t.Errorf("counted %+v", kills)
	}
}

// When the memory of the whole machine runs out, it is nobody's cgroup. Only in
// a machine that is there for nothing else.
func TestGlobalOOM(t *testing.T) {
	if os.Getenv("SONDE_TEST_VM") == "" {
		t.Skip("takes all memory of the machine: runs in virtual ones only")
	}
	o := newOOM(t, newKernel(t, Options{}), OOMOptions{})
	cmd := act("eat", "")
	must(t, "start", cmd.Start())
	must(t, "choose victim", os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("1000"), 0))
	cmd.Wait()
	oneKill(t, o, uint32(cmd.Process.Pid), "other", "global")
}

// The sensor's own death is known to the next one, and the one after that.
func TestOOMSurvivesTheSensor(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		dir := privatePins(t)
		pid := starve(t, "sensor", smallCgroup(t)+":"+dir)
		o := newPinnedOOM(t, k, dir)
		oneKill(t, o, pid, "sensor", "cgroup")
		n := o.total(t)

		next := newKernel(t, Options{Attach: k.obj.kind})
		takenOver := newPinnedOOM(t, next, dir)
		if got := takenOver.total(t); got < n {
			t.Errorf("after a restart %d kills, %d before", got, n)
		}
		next.Close()
		k.Close() // nobody left: what follows is counted by the pinned program
		pid = starve(t, "eat", smallCgroup(t))
		last := newPinnedOOM(t, newKernel(t, Options{Attach: k.obj.kind}), dir)
		oneKill(t, last, pid, "other", "cgroup")
	})
}

// While one generation takes over from another, both see each kill.
func TestOOMGenerationsOverlap(t *testing.T) {
	dir := privatePins(t)
	old := newPinnedOOM(t, newKernel(t, Options{}), dir) // its link stays open
	young := newPinnedOOM(t, newKernel(t, Options{}), dir)
	control := newOOM(t, newKernel(t, Options{}), OOMOptions{})
	kernel, ours := kernelKills(t), young.total(t)
	pid := starve(t, "eat", smallCgroup(t))
	if kernel, ours = kernelKills(t)-kernel, young.total(t)-ours; ours != kernel {
		t.Errorf("counted %d kills of %d", ours, kernel)
	}
	for _, o := range []*OOM{old, young, control} {
		oneKill(t, o, pid, "other", "cgroup")
	}
}

// Pins that this version cannot read are replaced, those of other versions are
// removed, and what it does understand goes on.
func TestOOMPinsOfAnotherLayout(t *testing.T) {
	dir := privatePins(t)
	old := newPinnedOOM(t, newKernel(t, Options{}), dir)
	starve(t, "eat", smallCgroup(t))
	kills := old.total(t)
	must(t, "change layout", os.Remove(filepath.Join(dir, pinnedDir, "last-v1")))
	foreign := []string{filepath.Join(dir, pinnedDir, "last-v1"), filepath.Join(dir, pinnedDir, "last-v0"), filepath.Join(dir, pinnedDir+"-v1", "totals")}
	for _, path := range foreign {
		must(t, "make directory", os.MkdirAll(filepath.Dir(path), 0o700))
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		must(t, "make map", err)
		must(t, "pin map", m.Pin(path))
		m.Close()
	}
	o := newPinnedOOM(t, newKernel(t, Options{}), dir)
	if n := o.total(t); n < kills || kills == 0 {
		t.Errorf("%d kills, %d under another layout of the last ones", n, kills)
	}
	if last, err := o.Kills(); err != nil || len(last) > 0 && last[0].Seq <= kills {
		t.Errorf("in a new map: %+v, %v", last, err)
	}
	for _, path := range foreign[1:] {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("pin of another version: %v", err)
		}
	}
	pinned, err := Pinned(dir)
	if err != nil || len(pinned) != len(pinnedLayouts)+3 {
		t.Errorf("pinned: %q, %v", pinned, err)
	}
	removed, err := RemovePins(dir)
	if err != nil || len(removed) != len(pinned)+2 { // and two directories
		t.Errorf("removed %q, %v", removed, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pin directory after removal: %v", err)
	}
	if removed, err := RemovePins(dir); err != nil || len(removed) != 0 {
		t.Errorf("removed again: %q, %v", removed, err)
	}
}

// Where nothing can be pinned the probe counts all the same, and says what is amiss.
func TestOOMWithoutPins(t *testing.T) {
	k := newKernel(t, Options{})
	occupied := t.TempDir()
	must(t, "occupy", os.WriteFile(filepath.Join(occupied, "file"), nil, 0o600))
	o := newOOM(t, k, OOMOptions{PinDir: filepath.Join(occupied, "sonde")})
	want := "not pinned: mount bpffs on " + occupied + ": directory not empty"
	if s := o.Status(); !s.Attached || s.Reason != want {
		t.Errorf("status: %+v, want reason %q", s, want)
	}
	oneKill(t, o, starve(t, "eat", smallCgroup(t)), "other", "cgroup")
}

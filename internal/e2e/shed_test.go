package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// roomyLimit leaves more than the sensor needs: what makes its memory short is ballast.
const roomyLimit = 256 << 20

// ballast joins the cgroup whose file of members is its argument and takes as many
// bytes as each line of its input says.
func ballast() error {
	err := errors.Join(os.WriteFile(os.Args[1], []byte("0"), 0), os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0))
	if err != nil {
		return err
	}
	var taken []byte
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if taken != nil {
			if err := unix.Munmap(taken); err != nil {
				return err
			}
		}
		bytes, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		taken, err = unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
		if err != nil {
			return err
		}
	}
	return nil
}

// memory is what the sensor says of its memory.
func (a *agent) memory(t *testing.T) (m struct {
	Share float64
	Level int   `json:"shed_level"`
	Go    int64 `json:"go_limit_bytes"`
}) {
	t.Helper()
	var p struct{ Memory any }
	p.Memory = &m
	a.ask(t, "/state/pipeline", &p)
	return m
}

// reach has a share of the memory taken, whatever the sensor itself takes meanwhile, until
// the sensor sheds as much as a level says.
func (a *agent) reach(t *testing.T, level int, share float64, take func(more float64)) {
	t.Helper()
	const near, settling = 0.01, 2 * time.Second // the kernel adds up late what a cgroup takes
	var last time.Time
	waitUntil(t, func() error {
		m := a.memory(t)
		if m.Level == level {
			return nil
		}
		if more := share - m.Share; math.Abs(more) > near && time.Since(last) > settling {
			take(more)
			last = time.Now()
		}
		return fmt.Errorf("level of shedding is %d with %.3f of the memory taken, want level %d", m.Level, m.Share, level)
	})
}

// argumentsOf starts a process and returns the arguments that the sensor knows of it. A
// process is known from its fork on: once one is known that was started after it has
// executed its program, so is that.
func (a *agent) argumentsOf(t *testing.T) (args []string) {
	t.Helper()
	var pids [2]int
	for i := range pids {
		cmd := act(t, "wait", "an-argument")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		background(t, cmd)
		defer in.Close()
		pids[i] = cmd.Process.Pid
	}
	waitUntil(t, func() error {
		var all []struct {
			PID  int
			Args []string
		}
		a.ask(t, "/state/processes", &all)
		known := false
		for _, p := range all {
			switch p.PID {
			case pids[0]:
				args = p.Args
			case pids[1]:
				known = true
			}
		}
		if !known {
			return fmt.Errorf("process %d is not known", pids[1])
		}
		return nil
	})
	return args
}

// When memory is short the sensor gives up, level by level, what the levels name: first
// details, then events, and never a count. All of it is said, and comes back.
func TestShedding(t *testing.T) {
	cgroup := testenv.MemoryCgroup(t, roomyLimit)
	dir, pins := directories(t)
	config := filepath.Join(t.TempDir(), "sonde.yaml")
	session := fmt.Sprintf("sessions: [{name: calls, points: [{name: syscall/sysno/%d/enter}], sinks: [{name: 'null'}]}]", unix.SYS_SCHED_YIELD)
	if err := os.WriteFile(config, []byte(session), 0o600); err != nil {
		t.Fatal(err)
	}
	a := launchIn(t, cgroup, dir, pins, "--collector.workloads", "--config.file="+config)
	a.waitReady(t)
	weight := act(t, "ballast", filepath.Join(cgroup, "cgroup.procs"))
	in, err := weight.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	background(t, weight)
	taken := 0.0
	take := func(more float64) {
		t.Helper()
		taken = max(taken+more, 0.01)
		if _, err := fmt.Fprintln(in, int(taken*roomyLimit)); err != nil {
			t.Fatal(err)
		}
	}
	details := func(want bool) {
		t.Helper()
		args, workloads := a.argumentsOf(t), a.families(t)["sonde_workload_execs_total"] != nil
		if got := a.callEvents(t) > 0; len(args) == 2 != want || workloads != want || got != want {
			t.Errorf("want details: %v; arguments %q, metrics by container %v, events of calls %v", want, args, workloads, got)
		}
	}
	details(true)
	a.followsMaps(t)

	a.reach(t, 3, 0.97, take)
	a.countsWithoutEvents(t)
	a.dumped(t)

	a.reach(t, 2, 0.85, take) // too much to leave level 2
	details(false)            // and the process whose arguments are asked for is known by its events, which are back
	a.reach(t, 1, 0.78, take) // and here level 1
	details(true)
	a.reach(t, 0, 0, take)
	if got := fmt.Sprint(transitions(a.families(t))); got != "map[0:1 1:2 2:2 3:1]" {
		t.Errorf("transitions of levels: %s", got)
	}
	for line, n := range map[string]int{"load is shed": 3, "load is taken back": 3, "heap dumped": 1} {
		if got := strings.Count(a.log.String(), line); got != n {
			t.Errorf("the log says %q %d times, want %d:\n%s", line, got, n, a.log)
		}
	}
	a.notKilled(t)
}

// callEvents makes calls of which a session wants to know, and returns how many events
// the sensor tried to make of them.
func (a *agent) callEvents(t *testing.T) float64 {
	t.Helper()
	attempted := func() float64 { return sum(a.families(t), "sonde_events_attempted_total", "point=syscall") }
	before := attempted()
	for range 10 {
		if _, _, errno := unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	return attempted() - before
}

// followsMaps takes a profile, whose maps are the sensor's memory too: the limit of the
// Go run time gives way for them, and comes back.
func (a *agent) followsMaps(t *testing.T) {
	t.Helper()
	before := a.memory(t).Go
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.profile(t, "/profile/slow?seconds=2&over=1s", "-top")
	}()
	const least = 8 << 20 // of its 12 MiB
	waitUntil(t, func() error {
		if now := a.memory(t).Go; before-now < least {
			return fmt.Errorf("the limit of the run time was %d, and is %d beside a profile", before, now)
		}
		return nil
	})
	<-ended
	waitUntil(t, func() error {
		if now := a.memory(t).Go; before-now >= least {
			return fmt.Errorf("the limit of the run time was %d, and is %d after a profile", before, now)
		}
		return nil
	})
}

// countsWithoutEvents forks: it is counted, exactly, and is no event.
func (a *agent) countsWithoutEvents(t *testing.T) {
	t.Helper()
	before, kernelBefore := a.settled(t)
	for range 20 {
		if err := act(t, "nothing").Run(); err != nil {
			t.Fatal(err)
		}
	}
	after, kernelAfter := a.settled(t)
	grown := func(name string, labels ...string) float64 {
		return sum(after, name, labels...) - sum(before, name, labels...)
	}
	if forks, kernel := grown("sonde_process_forks_total"), kernelAfter-kernelBefore; forks != kernel || forks < 20 {
		t.Errorf("counted %v forks, the kernel %v", forks, kernel)
	}
	if n := grown("sonde_events_attempted_total", "point=process/fork"); n != 0 {
		t.Errorf("%v events of forks", n)
	}
}

// dumped finds the one heap dump, which others cannot read and pprof can.
func (a *agent) dumped(t *testing.T) {
	t.Helper()
	var dumps []string
	waitUntil(t, func() (err error) { // it is written when the level has been entered
		dumps, err = filepath.Glob(filepath.Join(a.dir, "state", "heap-*.pb.gz"))
		if err == nil && (len(dumps) != 1 || !strings.Contains(a.log.String(), "heap dumped")) {
			err = fmt.Errorf("heap dumps: %q", dumps)
		}
		return err
	})
	file, err := os.Open(dumps[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("heap dump: %v, %v", info, err)
	}
	if p, err := profile.Parse(file); err != nil || len(p.Sample) == 0 {
		t.Errorf("heap dump: %v, %v", p, err)
	}
}

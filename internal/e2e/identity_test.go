package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"golang.org/x/sys/unix"
)

// deed is an event as it was told, with its process.
type deed struct {
	what            string
	process, parent *tetragon.Process
	ancestors       []*tetragon.Process
}

func (d deed) pid() uint32 { return d.process.GetPid().GetValue() }

func (d deed) String() string { return d.what + " " + filepath.Base(d.process.GetBinary()) }

// deeds are those of a session that fit.
func deeds(t *testing.T, events string, fits func(deed) bool) (all []deed) {
	t.Helper()
	for _, ev := range lines(t, events) {
		var d deed
		switch e := ev.Event.(type) {
		case *tetragon.GetEventsResponse_ProcessExec:
			d = deed{"exec", e.ProcessExec.Process, e.ProcessExec.Parent, e.ProcessExec.Ancestors}
		case *tetragon.GetEventsResponse_ProcessExit:
			d = deed{"exit", e.ProcessExit.Process, e.ProcessExit.Parent, nil}
		case *tetragon.GetEventsResponse_ProcessKprobe:
			d = deed{e.ProcessKprobe.Message, e.ProcessKprobe.Process, e.ProcessKprobe.Parent, nil}
		}
		if d.process != nil && fits(d) {
			all = append(all, d)
		}
	}
	return all
}

// identified is a sensor that tells of processes, and where programs are that nobody
// else runs.
type identified struct {
	*agent
	t           *testing.T
	dir, events string
}

// program makes a program of another one.
func (s *identified) program(from, name string) string {
	s.t.Helper()
	data, err := os.ReadFile(from)
	path := filepath.Join(s.dir, name)
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *identified) run(name string, args ...string) (pid uint32) {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return uint32(cmd.ProcessState.Pid())
}

// wants waits until the deeds that fit are these, and returns them.
func (s *identified) wants(fits func(deed) bool, want ...string) (all []deed) {
	s.t.Helper()
	waitUntil(s.t, func() error {
		all = deeds(s.t, s.events, fits)
		var got []string
		for _, d := range all {
			got = append(got, d.String())
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("told of %q, want %q", got, want)
		}
		return nil
	})
	return all
}

// TestEventsCarryTheirProcess: every line shows the process that did it as it was then.
func TestEventsCarryTheirProcess(t *testing.T) {
	s := &identified{t: t, dir: t.TempDir()}
	s.events = filepath.Join(s.dir, "events.json")
	before := exec.Command(s.program("/bin/sleep", "before"), "600")
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}
	id, config := fmt.Sprintf("%064x", uint64(os.Getpid())<<32|uint64(time.Now().UnixNano())>>32), filepath.Join(s.dir, "sonde.yaml")
	text := `{containers: {runtimes: {docker: ` + dockerSays(t, id, 300*time.Millisecond) + `}}, sessions: [{name: all,
  points: [{name: process/exec, context_fields: [ancestors]}, {name: process/exit}, {name: network/connect}, {name: network/listen}], sinks: [{name: jsonl, config: {path: ` + s.events + `}}]}]}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.agent = startAgent(t, "--config.file="+config, "--events.dir="+s.dir, "--events.hold=30s")
	for _, test := range []struct {
		name string
		test func(*identified)
	}{
		{"there before", func(s *identified) { s.earlier(before) }},
		{"in a container", func(s *identified) { s.contained(id) }},
		{"of a thread", (*identified).threaded},
		{"exec after exec", (*identified).chained},
		{"pid used again", (*identified).reused},
	} {
		t.Run(test.name, func(t *testing.T) {
			sub := *s
			sub.t = t
			test.test(&sub)
		})
	}
}

// earlier is a process from before the sensor: it has its exec in every session, and
// keeps its identity.
func (s *identified) earlier(cmd *exec.Cmd) {
	mine := func(d deed) bool { return d.pid() == uint32(cmd.Process.Pid) }
	s.wants(mine, "exec before")
	later := *s
	later.events = filepath.Join(s.dir, "later.json")
	file, text := filepath.Join(s.dir, "later"), `{"name": "later", "points": [{"name": "process/exec"}], "sinks": [{"name": "jsonl", "config": {"path": "`+later.events+`"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if code, _, stderr := s.verb(s.t, "trace", "create", "--config="+file); code != 0 {
		s.t.Fatal(stderr)
	}
	later.wants(mine, "exec before")
	if err := cmd.Process.Kill(); err != nil {
		s.t.Error(err)
	}
	_ = cmd.Wait()
	all := s.wants(mine, "exec before", "exit before")
	if x, end := all[0].process, all[1].process; x.Flags != "procFS" || x.Arguments != "600" || x.Cwd == "" || x.ExecId != end.ExecId || end.Flags != "procFS" || all[0].parent.GetBinary() == "" {
		s.t.Errorf("%v, then %v", all[0], all[1])
	}
}

// contained are a container's entrypoint, whose name its runtime tells only a while
// later, and then many that live for a millisecond.
func (s *identified) contained(id string) {
	const n = 40
	entry, brief, shell := s.program("/bin/true", "entrypoint"), s.program("/bin/true", "brief"), s.program("/bin/sh", "looping")
	join := "echo 0 >" + containerCgroup(s.t, id) + "/cgroup.procs; "
	s.run(shell, "-ec", join+"exec "+entry)
	s.run(shell, "-ec", fmt.Sprintf("%s i=0; while [ $i -lt %d ]; do %s; i=$((i+1)); done", join, n, brief))
	all := s.wants(func(d deed) bool { return d.process.Binary == entry || d.process.Binary == brief },
		slices.Concat([]string{"exec entrypoint", "exit entrypoint"}, slices.Repeat([]string{"exec brief", "exit brief"}, n))...)
	for _, d := range all {
		pod := d.process.GetPod()
		if d.process.Docker != id[:31] || pod.GetName() != "web-0" || pod.GetNamespace() != "sonde-test" || pod.GetContainer().GetName() != "nginx" {
			s.t.Fatalf("%v in %q, pod %v", d, d.process.Docker, pod)
		}
		if d.process.Binary == brief && (d.parent.GetBinary() != shell || d.parent.Docker != id[:31]) {
			s.t.Fatalf("%v: the parent is %v", d, d.parent)
		}
	}
	if late := sum(s.families(s.t), "sonde_container_lookups_total", "result=late"); late > 0 {
		s.t.Errorf("%v names came too late", late)
	}
}

// threaded is a thread that listens.
func (s *identified) threaded() {
	c := listening(s.t, s.program("/proc/self/exe", "threads"), "listen-from-thread")
	c.stop()
	all := s.wants(func(d deed) bool { return d.pid() == uint32(c.pid) }, "exec threads", "network/listen threads", "exit threads")
	if d := all[1]; d.process.GetTid().GetValue() == d.pid() || d.process.ExecId != all[0].process.ExecId {
		s.t.Errorf("%v by thread %d", d, d.process.GetTid().GetValue())
	}
}

// listenFromThread listens with a thread that is not the process's first.
func listenFromThread() error {
	runtime.LockOSThread()
	opened := make(chan error, 1)
	open := func() {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err == nil {
			_, err = fmt.Println(l.Addr().(*net.TCPAddr).Port)
		}
		opened <- err
	}
	if unix.Gettid() == os.Getpid() {
		go open() // this thread is taken
	} else {
		open()
	}
	if err := <-opened; err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// chained is a process that becomes one program after the other, each of which connects.
func (s *identified) chained() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	one, two, three := s.program("/bin/bash", "one"), s.program("/bin/bash", "two"), s.program("/bin/true", "three")
	connect := fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; exec ", l.Addr().(*net.TCPAddr).Port)
	for range 10 {
		pid := s.run(one, "-c", connect+two+" -c '"+connect+three+"'")
		all := s.wants(func(d deed) bool {
			return d.pid() == pid && d.process.Binary != "" && strings.HasPrefix(d.process.Binary, s.dir)
		},
			"exec one", "network/connect one", "exec two", "network/connect two", "exec three", "exit three")
		if a := all[4].ancestors; len(a) == 0 || int(a[0].Pid.GetValue()) != os.Getppid() || a[0].Binary == "" {
			s.t.Errorf("%v descends from %v, beyond its parent from process %d first", all[4], a, os.Getppid())
		}
	}
}

// reused are two processes with one pid, one after the other.
func (s *identified) reused() {
	first, second := s.program("/bin/true", "first"), s.program("/bin/true", "second")
	pid := s.run(first)
	again := uint32(0)
	for deadline := time.Now().Add(30 * time.Second); again != pid; { // somebody else may take it
		if time.Now().After(deadline) {
			s.t.Fatalf("nobody is given pid %d again", pid)
		}
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(int(pid)-1)), 0); err != nil {
			s.t.Fatal(err)
		}
		again = s.run(second)
	}
	all := s.wants(func(d deed) bool { return d.pid() == pid && strings.HasPrefix(d.process.Binary, s.dir) },
		"exec first", "exit first", "exec second", "exit second")
	if all[0].process.ExecId != all[1].process.ExecId || all[2].process.ExecId != all[3].process.ExecId || all[0].process.ExecId == all[2].process.ExecId {
		s.t.Errorf("ids %s, %s, %s, %s", all[0].process.ExecId, all[1].process.ExecId, all[2].process.ExecId, all[3].process.ExecId)
	}
}

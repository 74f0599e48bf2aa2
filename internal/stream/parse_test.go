package stream

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
)

func TestParseSession(t *testing.T) {
	const text = `{"name": "Default",
		"points": [
			{"name": "sentry/clone"},
			{"name": "process/exec", "context_fields": ["credentials", "container_id"], "filter": {"path_prefix": ["/tmp/"], "uid": [0]}}
		],
		"sinks": [{"name": "remote", "config": {"endpoint": "/tmp/events.sock"}, "ignore_setup_error": true}]}`
	want := &Session{
		Name: "Default",
		Points: []Point{
			{Name: "sentry/clone", Point: event.ProcessFork},
			{Name: "process/exec", Point: event.ProcessExec, Fields: event.FieldCredentials | event.FieldContainer,
				Filter: Filter{Paths: []string{"/tmp/"}, UIDs: []uint32{0}}},
		},
		Sinks: []SinkConfig{{Name: "remote", Config: map[string]any{"endpoint": "/tmp/events.sock"}, IgnoreSetupError: true}},
	}
	for name, text := range map[string]string{
		"plain":   text,
		"wrapped": `{"trace_session": ` + text + `, "cpu_limit": 3}`,
	} {
		got, missing, err := ParseSession([]byte(text))
		if err != nil || len(missing) > 0 {
			t.Errorf("%s: %v, missing %v", name, err, missing)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A session of gVisor's documentation is taken as it is, and every event of a call goes
// to whom it was promised.
func TestSystemCallsOfSessions(t *testing.T) {
	text, err := os.ReadFile("testdata/gvisor_session.json")
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := ParseSession(text)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	sink := &counting{}
	f.sinks["remote"] = sink
	if _, err := f.Create(s); err != nil {
		t.Fatal(err)
	}
	w := f.enabled.Load()
	var want event.WantedCalls
	for _, name := range []string{"syscall/fork/enter", "syscall/fork/exit", "syscall/execve/enter", "syscall/sysno/35/enter", "syscall/sysno/35/exit"} {
		p, ok := event.ParseCallPoint(name)
		if !ok {
			t.Fatalf("no point %s", name)
		}
		want.Add(p, 0)
	}
	if diff := cmp.Diff(Wanted{Points: []event.Point{event.ProcessFork, event.Syscall}, Calls: want, Limits: map[event.Point]event.Limit{}}, *w); diff != "" {
		t.Errorf("wanted (-want +got):\n%s", diff)
	}
	calls := func(point string) {
		c, _ := event.ParseCallPoint(point)
		f.Publish(&event.Event{Point: event.Syscall, Call: event.Call{Number: c.Number, Exit: c.Exit}})
	}
	for _, point := range []string{"syscall/fork/exit", "syscall/sysno/35/exit", "syscall/execve/exit", "syscall/sysno/36/enter", "syscall/execve/enter"} {
		calls(point)
	}
	if k := f.Sessions()[0].Sinks[0]; k.Matched != 3 {
		t.Errorf("matched %d of 5, want 3", k.Matched)
	}
}

// Environments are asked of the kernel while a session wants them of execs, by whichever name.
func TestEnvironmentsOfSessions(t *testing.T) {
	for field, want := range map[string]bool{"environment": true, "env": true, "envv": true, "cwd": false} {
		s, _, err := ParseSession([]byte(`{"name": "a", "points": [{"name": "sentry/execve", "optional_fields": ["` + field + `"]}], "sinks": [{"name": "null"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		f := newFixture(t)
		f.sinks["null"] = &counting{}
		if _, err := f.Create(s); err != nil {
			t.Fatal(err)
		}
		if got := f.enabled.Load().Environments; got != want {
			t.Errorf("%s: environments %v", field, got)
		}
	}
}

// A point is limited by what all sessions leave of it together.
func TestLimitsOfSessions(t *testing.T) {
	f := newFixture(t)
	f.sinks["null"] = &counting{}
	for i, step := range []struct {
		points string
		want   map[event.Point]event.Limit
	}{
		{`{"name": "module/load", "filter": {"pid": [1, 2], "uid": [9]}}, {"name": "process/mmap", "filter": {"uid": [9]}}`,
			map[event.Point]event.Limit{event.ModuleLoad: {PIDs: []uint32{1, 2}}, event.ProcessMmap: {UIDs: []uint32{9}}}},
		{`{"name": "module/load", "filter": {"cgroup_id": [3]}}, {"name": "syscall/read/exit", "filter": {"pid": [1]}}, {"name": "syscall/read/enter", "filter": {"comm": ["a"]}}`,
			map[event.Point]event.Limit{event.ModuleLoad: {PIDs: []uint32{1, 2}, Cgroups: []uint64{3}}, event.ProcessMmap: {UIDs: []uint32{9}}}},
		{`{"name": "process/mmap"}`, map[event.Point]event.Limit{event.ModuleLoad: {PIDs: []uint32{1, 2}, Cgroups: []uint64{3}}}},
	} {
		s, _, err := ParseSession(fmt.Appendf(nil, `{"name": "s%d", "points": [%s], "sinks": [{"name": "null"}]}`, i, step.points))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Create(s); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, f.enabled.Load().Limits); diff != "" {
			t.Errorf("session %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestParseSessionFaults(t *testing.T) {
	const rest = `"sinks": [{"name": "null"}]}`
	for text, want := range map[string][]string{
		`{"name": "a", "points": [{"name": "syscall/nothing/enter"}, {"name": "process/exec", "context_fields": ["mood"]}], ` + rest: {
			"no point syscall/nothing/enter", "no field mood of point process/exec"},
		`{"name": "a", "points": [{"name": "syscall/sysno/512/enter"}, {"name": "syscall/sysno/07/exit"}, {"name": "syscall/sysno/7"}], ` + rest: {
			"no point syscall/sysno/512/enter", "no point syscall/sysno/07/exit", "no point syscall/sysno/7"},
		`{"name": "a", "points": [{"name": "process/exit", "optional_fields": ["envv"]}], ` + rest: {"no field envv of point process/exit"},
		`{"name": "a", "points": [{"name": "canary"}], ` + rest:                                    {"no point canary", "0 points"},
		`{"points": [{"name": "process/exec"}], ` + rest:                                           {"name"},
		`{"name": "a", "points": [{"name": "process/exec"}]}`:                                      {"0 sinks"},
		`{"name": "a", "pionts": [], ` + rest:                                                      {"pionts"},
		`{"trace_session": {"name": "a", "more": 1}}`:                                              {"more"},
		`{"name": "a"} {"name": "b"}`:                                                              {"invalid"},
		``:                                                                                         {"unexpected end"},
		`[]`:                                                                                       {"cannot unmarshal"},
		strings.Repeat(" ", MaxSessionBytes) + `{"name": "too long"}`:                              {"at most"},
	} {
		_, _, err := ParseSession([]byte(text))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%.80s: error %v, want one about %q", text, err, w)
			}
		}
	}
}

func TestIgnoreMissing(t *testing.T) {
	s, missing, err := ParseSession([]byte(`{"name": "a", "ignore_missing": true, "sinks": [{"name": "null"}],
		"points": [{"name": "no/such"}, {"name": "process/exit", "optional_fields": ["mood"]}, {"name": "sentry/task_exit"}]}`))
	if err != nil || len(s.Points) != 1 || s.Points[0].Name != "sentry/task_exit" {
		t.Errorf("%+v, %v", s, err)
	}
	if diff := cmp.Diff([]string{"point no/such", "field mood of point process/exit"}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

// Every point that is listed can be asked for with every field it lists.
func TestMetadataIsTrue(t *testing.T) {
	for _, m := range Metadata() {
		p, ok := FindPoint(m.Name)
		if !ok || p.Point == event.Canary {
			t.Errorf("%s is listed and not known", m.Name)
		}
		for _, name := range append(m.OptionalFields, m.ContextFields...) {
			if _, ok := event.ParseField(name); !ok {
				t.Errorf("%s: field %s is listed and not known", m.Name, name)
			}
		}
	}
}

func FuzzParseSession(f *testing.F) {
	f.Add([]byte(`{"trace_session": {"name": "a", "points": [{"name": "process/exec"}], "sinks": [{"name": "null"}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, _, err := ParseSession(text)
		if err == nil && s.validate() != nil {
			t.Errorf("accepted %q", text)
		}
	})
}

func TestFilter(t *testing.T) {
	var editor event.Editor
	ev := event.Event{
		Process: event.Process{PID: 7, UID: 1000, CgroupID: 9, Comm: [16]byte{'s', 'h'}}, Rules: []*event.Rule{{Name: "a"}, {Name: "b"}},
		Subject: event.Subject{Process: event.Actor{Exe: "/usr/bin/sh", Container: "abcdef"}},
	}
	onHost := event.Event{Point: event.ProcessExec}
	editor.Set(&onHost, event.TextExe, []byte("/opt/it"), false)
	below := func(ev *event.Event, pids []uint32) bool { return ev.Process.PID == 7 && slices.Contains(pids, 3) }
	editor.Set(&ev, event.TextPath, []byte("/tmp/x"), false)
	editor.Set(&ev, event.TextArgs, []byte("x\x00-c\x00echo hi\x00"), false)
	for name, test := range map[string]struct {
		filter Filter
		want   bool
	}{
		"none":           {Filter{}, true},
		"pid":            {Filter{PIDs: []uint32{6, 7}}, true},
		"other pid":      {Filter{PIDs: []uint32{6}}, false},
		"uid and pid":    {Filter{UIDs: []uint32{1000}, PIDs: []uint32{6}}, false},
		"cgroup":         {Filter{Cgroups: []uint64{9}}, true},
		"tree":           {Filter{Trees: []uint32{2, 3}}, true},
		"other tree":     {Filter{Trees: []uint32{2}}, false},
		"container":      {Filter{Containers: []string{Host, "abcdef"}}, true},
		"its beginning":  {Filter{Containers: []string{"abc"}}, true},
		"other":          {Filter{Containers: []string{"", "bc", Host, "abcdefg"}}, false},
		"binary":         {Filter{Binaries: []string{"/usr/"}}, true},
		"other binary":   {Filter{Binaries: []string{"/tmp/"}}, false},
		"comm":           {Filter{Names: []string{"bash", "sh"}}, true},
		"comm prefix":    {Filter{Names: []string{"s"}}, false},
		"path":           {Filter{Paths: []string{"/var/", "/tmp/"}}, true},
		"path elsewhere": {Filter{Paths: []string{"/tmp/x/"}}, false},
		"argument":       {Filter{Args: []string{"-c"}}, true},
		"last argument":  {Filter{Args: []string{"echo hi"}}, true},
		"part of one":    {Filter{Args: []string{"echo"}}, false},
		"rule":           {Filter{Rules: []string{"x", "b"}}, true},
		"other rule":     {Filter{Rules: []string{"x"}}, false},
		"any rule":       {Filter{Rules: []string{AnyRule}}, true},
	} {
		if got := test.filter.wants(&ev, below); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, test := range map[string]struct {
		filter Filter
		want   bool
	}{
		"host":           {Filter{Containers: []string{"abc", Host}}, true},
		"container":      {Filter{Containers: []string{"abc"}}, false},
		"what it became": {Filter{Binaries: []string{"/opt/"}}, true},
	} {
		if got := test.filter.wants(&onHost, below); got != test.want {
			t.Errorf("on the host, %s: %v", name, got)
		}
	}
}

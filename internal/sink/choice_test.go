package sink

import (
	encoding "encoding/json"
	"strings"
	"testing"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// shop is a machine with one container, abc.
type shop struct{ small }

func (shop) Container(id string) Container {
	return Container{ID: id, Name: "main", Image: "cats", Namespace: "shop", Pod: "web-1"}
}

// execution is an event with everything that filters look at.
func execution() *event.Event {
	ev := &event.Event{
		Point: event.ProcessExec, Fields: event.AllFields, TimeNS: 5e9, Process: event.Process{PID: 7, TID: 7, PPID: 6},
		Subject: event.Subject{
			Process: event.Actor{ExecID: event.ExecID{PID: 7, ExecNS: 5e9}, Container: "abc"},
			Parent:  event.Actor{ExecID: event.ExecID{PID: 6, ExecNS: 4e9}, Exe: "/bin/sh", Args: "sh\x00-c\x00y\x00", Cwd: "/"},
		},
		Exec: event.Exec{Links: 1, Credentials: event.Credentials{EUID: 1, Effective: 1<<1 | 1<<2}, Namespaces: event.Namespaces{Mnt: 5, PID: 6}},
	}
	var editor event.Editor
	editor.Set(ev, event.TextPath, []byte("./cat"), false)
	editor.Set(ev, event.TextArgs, []byte("cat\x00-n\x00x\x00"), false)
	editor.Set(ev, event.TextCwd, []byte("/bin"), false)
	return ev
}

func choose(t *testing.T, allow, deny []*api.Filter, fields ...*api.FieldFilter) *Choice {
	t.Helper()
	c, err := NewChoice(shop{}, allow, deny, fields)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFilters(t *testing.T) {
	effective := func(s *api.CapFilterSet) *api.Filter { return &api.Filter{Capabilities: &api.CapFilter{Effective: s}} }
	some := func(c ...api.CapabilitiesType) []api.CapabilitiesType { return c }
	for name, test := range map[string]struct{ fits, not *api.Filter }{
		"binary":           {&api.Filter{BinaryRegex: []string{"no", "^/bin/c"}}, &api.Filter{BinaryRegex: []string{"sh$"}}},
		"arguments":        {&api.Filter{ArgumentsRegex: []string{"x"}}, &api.Filter{ArgumentsRegex: []string{"y"}}},
		"parent binary":    {&api.Filter{ParentBinaryRegex: []string{"sh$"}}, &api.Filter{ParentBinaryRegex: []string{"cat"}}},
		"parent arguments": {&api.Filter{ParentArgumentsRegex: []string{"y"}}, &api.Filter{ParentArgumentsRegex: []string{"x"}}},
		"pod":              {&api.Filter{PodRegex: []string{"^web"}}, &api.Filter{PodRegex: []string{"^db"}}},
		"namespace":        {&api.Filter{Namespace: []string{"", "shop"}}, &api.Filter{Namespace: []string{""}}},
		"namespace regex":  {&api.Filter{NamespaceRegex: []string{"^s"}}, &api.Filter{NamespaceRegex: []string{"^x"}}},
		"container":        {&api.Filter{ContainerId: []string{"^ab"}}, &api.Filter{ContainerId: []string{"^b"}}},
		"container name":   {&api.Filter{ContainerNameRegex: []string{"main"}}, &api.Filter{ContainerNameRegex: []string{"side"}}},
		"pid":              {&api.Filter{Pid: []uint32{1, 7}}, &api.Filter{Pid: []uint32{6}}},
		"kind":             {&api.Filter{EventSet: []api.EventType{api.EventType_PROCESS_EXEC}}, &api.Filter{EventSet: []api.EventType{api.EventType_PROCESS_EXIT}}},
		"policy":           {&api.Filter{PolicyNames: []string{""}}, &api.Filter{PolicyNames: []string{"sonde"}}},
		"every member":     {&api.Filter{Pid: []uint32{7}, PodRegex: []string{"web"}}, &api.Filter{Pid: []uint32{7}, PodRegex: []string{"db"}}},
		"other than all":   {&api.Filter{}, &api.Filter{ContainerId: []string{"^$"}}},
		"any capability":   {effective(&api.CapFilterSet{Any: some(2, 3)}), effective(&api.CapFilterSet{Any: some(3)})},
		"all of them":      {effective(&api.CapFilterSet{All: some(2)}), effective(&api.CapFilterSet{All: some(2, 3)})},
		"exactly them":     {effective(&api.CapFilterSet{Exactly: some(2, 1)}), effective(&api.CapFilterSet{Exactly: some(2)})},
		"none of them":     {effective(&api.CapFilterSet{None: some(3)}), effective(&api.CapFilterSet{None: some(1)})},
	} {
		t.Run(name, func(t *testing.T) {
			for f, want := range map[*api.Filter]bool{test.fits: true, test.not: false} {
				if got := choose(t, []*api.Filter{f}, nil).Wants(execution()); got != want {
					t.Errorf("allowed by %v: %v", f, got)
				}
				if got := choose(t, nil, []*api.Filter{f}).Wants(execution()); got == want {
					t.Errorf("not denied by %v: %v", f, got)
				}
			}
		})
	}
}

// prune removes what a path names from a message, or everything else: what field filters
// mean, done to what a line says.
func prune(of protoreflect.Message, path []string, exclude bool) {
	of.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch named := string(f.Name()) == path[0]; {
		case named && len(path) > 1 && single(f):
			prune(v.Message(), path[1:], exclude)
		case named == exclude:
			of.Clear(f)
		}
		return true
	})
}

// paths are those of all fields of a message, down to a depth.
func paths(m protoreflect.MessageDescriptor, depth int) (all []string) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		all = append(all, string(f.Name()))
		if single(f) && depth > 1 {
			for _, below := range paths(f.Message(), depth-1) {
				all = append(all, string(f.Name())+"."+below)
			}
		}
	}
	return all
}

// lineOf is what an event's line says.
func lineOf(t *testing.T, c *Choice, ev *event.Event) *api.GetEventsResponse {
	t.Helper()
	r, line := &api.GetEventsResponse{}, NewEncoder(shop{}, c).Line(ev)
	if err := protojson.Unmarshal(line, r); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return r
}

// payload is the message of the event itself.
func payload(r *api.GetEventsResponse) protoreflect.Message {
	m := r.ProtoReflect()
	return m.Get(m.WhichOneof(m.Descriptor().Oneofs().ByName("event"))).Message()
}

// Whatever one field filter names is left out, or all that is left, and nothing else.
func TestEveryFieldCanBeLeftOut(t *testing.T) {
	exec := execution()
	exit, connect, fork := exec.Clone(), exec.Clone(), exec.Clone()
	exit.Point, exit.Exit.Code = event.ProcessExit, 3
	connect.Point, connect.Conn = event.NetworkConnect, event.Conn{Family: event.IPv4, Protocol: 6, RemotePort: 443}
	fork.Point, fork.Child.PID = event.ProcessFork, 8
	for _, ev := range []*event.Event{exec, &exit, &connect, &fork} {
		whole := lineOf(t, nil, ev)
		for _, path := range paths(payload(whole).Descriptor(), 3) {
			for action, exclude := range map[api.FieldFilterAction]bool{api.FieldFilterAction_INCLUDE: false, api.FieldFilterAction_EXCLUDE: true} {
				c := choose(t, nil, nil, &api.FieldFilter{Action: action, Fields: &fieldmaskpb.FieldMask{Paths: []string{path}}})
				want := proto.CloneOf(whole)
				prune(payload(want), strings.Split(path, "."), exclude)
				if got := lineOf(t, c, ev); !proto.Equal(got, want) {
					t.Errorf("%v, %v %s: got\n%s\nwant\n%s", ev.Point, action, path, prototext.Format(got), prototext.Format(want))
				}
			}
		}
	}
}

func TestFieldFilters(t *testing.T) {
	fields := func(a api.FieldFilterAction, paths ...string) *api.FieldFilter {
		return &api.FieldFilter{Action: a, Fields: &fieldmaskpb.FieldMask{Paths: paths}}
	}
	include, exclude := api.FieldFilterAction_INCLUDE, api.FieldFilterAction_EXCLUDE
	elsewhere := fields(exclude, "process")
	elsewhere.EventSet = []api.EventType{api.EventType_PROCESS_EXIT}
	inverted := fields(exclude, "process")
	inverted.EventSet, inverted.InvertEventSet = elsewhere.EventSet, wrapperspb.Bool(true)
	whole := lineOf(t, nil, execution()).GetProcessExec()
	for name, test := range map[string]struct {
		filters []*api.FieldFilter
		want    *api.ProcessExec
	}{
		"two":      {[]*api.FieldFilter{fields(include, "parent.pid", "process.pod.name")}, &api.ProcessExec{Process: &api.Process{Pod: &api.Pod{Name: "web-1"}}, Parent: &api.Process{Pid: u32(6)}}},
		"both":     {[]*api.FieldFilter{fields(exclude, "parent.binary", "parent.arguments"), fields(include, "parent.binary", "parent.pid")}, &api.ProcessExec{Parent: &api.Process{Pid: u32(6)}}},
		"included": {[]*api.FieldFilter{fields(include, "parent", "process.pid"), fields(include, "parent.pid")}, &api.ProcessExec{Parent: &api.Process{Pid: u32(6)}}},
		"shorter":  {[]*api.FieldFilter{fields(include, "parent.pid", "parent")}, &api.ProcessExec{Parent: whole.Parent}},
		"other":    {[]*api.FieldFilter{elsewhere}, whole},
		"inverted": {[]*api.FieldFilter{inverted}, &api.ProcessExec{Parent: whole.Parent}},
	} {
		t.Run(name, func(t *testing.T) {
			got := lineOf(t, choose(t, nil, nil, test.filters...), execution())
			if !proto.Equal(got.GetProcessExec(), test.want) || got.NodeName == "" {
				t.Errorf("got\n%s\nwant\n%s", prototext.Format(got), prototext.Format(test.want))
			}
		})
	}
}

// A form other than that of lines loses the same, as far as it is the event's own.
func TestStrip(t *testing.T) {
	c := choose(t, nil, nil,
		&api.FieldFilter{Action: api.FieldFilterAction_EXCLUDE, Fields: &fieldmaskpb.FieldMask{Paths: []string{"process.arguments", "process.cwd", "parent"}}})
	ev := execution()
	c.Strip(ev)
	if len(ev.Text(event.TextArgs)) > 0 || len(ev.Text(event.TextPath)) == 0 || ev.Fields != event.AllFields&^(event.FieldCwd|event.FieldParentGroupID) {
		t.Errorf("fields %v, arguments %q, path %q", ev.Fields.Names(), ev.Text(event.TextArgs), ev.Text(event.TextPath))
	}
	call := event.Event{Point: event.Syscall, Fields: event.AllFields, Texts: [event.TextKinds]event.Span{event.TextPath: {Len: 1}}, Data: []byte("x")}
	choose(t, nil, nil, &api.FieldFilter{Action: api.FieldFilterAction_EXCLUDE, Fields: &fieldmaskpb.FieldMask{Paths: []string{"process"}}}).Strip(&call)
	if len(call.Text(event.TextPath)) == 0 || call.Fields&event.FieldThreadID != 0 {
		t.Errorf("of a call: fields %v, file name %q", call.Fields.Names(), call.Text(event.TextPath))
	}
}

// A sink's configuration has filters as Tetragon's users write them.
func TestGate(t *testing.T) {
	for text, want := range map[string]struct {
		fault string
		rest  []string
		wants bool
	}{
		`{}`:                              {wants: true},
		`{"path": "/x", "rate_limit": 6}`: {wants: true, rest: []string{"path"}},
		`{"allow_list": [{"event_set": ["PROCESS_EXIT"]}, {"binary_regex": ["cat$"], "namespace": ["shop"]}]}`:                            {wants: true},
		`{"allow_list": [{"event_set": ["PROCESS_EXIT"]}]}`:                                                                               {},
		`{"deny_list": [{"pid": [7]}]}`:                                                                                                   {},
		`{"field_filters": [{"fields": "process.exec_id,parent.parentExecId", "event_set": ["PROCESS_EXEC"], "invert_event_set": true}]}`: {wants: true},
		`{"allow_list": [{"binary_rege": ["x"]}]}`:                                                                                        {fault: "unknown field"},
		`{"allow_list": [{"health_check": true}]}`:                                                                                        {fault: "health_check: not supported"},
		`{"deny_list": {"pid": [7]}}`:                                                                                                     {fault: "deny_list"},
		`{"field_filters": [{"fields": "process.pid.value"}]}`:                                                                            {fault: "process.pid.value"},
		`{"field_filters": [{"fields": "process.nope"}]}`:                                                                                 {fault: "process.nope"},
		`{"field_filters": [{"fields": "process", "action": "HIDE"}]}`:                                                                    {fault: "HIDE"},
		`{"rate_limit": -1}`: {fault: "rate_limit"},
	} {
		var config map[string]any
		if err := encoding.Unmarshal([]byte(text), &config); err != nil {
			t.Fatal(err)
		}
		g, rest, err := TakeGate(config, shop{})
		switch {
		case want.fault != "":
			if err == nil || !strings.Contains(err.Error(), want.fault) {
				t.Errorf("%s: %v, want one that says %q", text, err, want.fault)
			}
		case err != nil:
			t.Errorf("%s: %v", text, err)
		case g.Wants(execution()) != want.wants || len(rest) != len(want.rest) || len(rest) > 0 && rest[want.rest[0]] == nil:
			t.Errorf("%s: wants %v, the rest is %v", text, g.Wants(execution()), rest)
		}
	}
	g, _, err := TakeGate(map[string]any{"rate_limit": 6}, shop{})
	if err != nil || g.RateLimit() != 6 {
		t.Errorf("rate limit: %v", err)
	}
	if s, err := NewNull(map[string]any{"path": "/x"}, shop{}); err == nil {
		t.Errorf("a key that null has not: %v", s)
	}
}

// What is wanted costs nothing but the look at it.
func TestChoiceDoesNotAllocate(t *testing.T) {
	c := choose(t, []*api.Filter{{Namespace: []string{"shop"}, PolicyNames: []string{""}}}, []*api.Filter{{Pid: []uint32{8}}})
	ev := execution()
	if n := testing.AllocsPerRun(1000, func() {
		if !c.Wants(ev) {
			t.Error("not wanted")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

package tetragon

import (
	"testing"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// execution is an event with everything that filters look at.
func execution() *api.GetEventsResponse {
	return &api.GetEventsResponse{NodeName: "n", Event: &api.GetEventsResponse_ProcessExec{ProcessExec: &api.ProcessExec{
		Process: &api.Process{
			Pid: wrapperspb.UInt32(7), Binary: "/bin/cat", Arguments: "-n x", Docker: "abc",
			Pod: &api.Pod{Name: "web-1", Namespace: "shop", Container: &api.Container{Name: "main"}},
			Cap: &api.Capabilities{Effective: []api.CapabilitiesType{1, 2}},
		},
		Parent: &api.Process{Pid: wrapperspb.UInt32(6), Binary: "/bin/sh", Arguments: "-c y"},
	}}}
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
		"any capability":   {effective(&api.CapFilterSet{Any: some(2, 3)}), effective(&api.CapFilterSet{Any: some(3)})},
		"all of them":      {effective(&api.CapFilterSet{All: some(2)}), effective(&api.CapFilterSet{All: some(2, 3)})},
		"exactly them":     {effective(&api.CapFilterSet{Exactly: some(2, 1)}), effective(&api.CapFilterSet{Exactly: some(2)})},
		"none of them":     {effective(&api.CapFilterSet{None: some(3)}), effective(&api.CapFilterSet{None: some(1)})},
	} {
		t.Run(name, func(t *testing.T) {
			for f, want := range map[*api.Filter]bool{test.fits: true, test.not: false} {
				made, err := newFilter(f)
				if err != nil {
					t.Fatal(err)
				}
				c := choice{allow: []filter{made}}
				if got := c.wants(execution()); got != want {
					t.Errorf("allowed by %v: %v", f, got)
				}
				c = choice{deny: []filter{made}}
				if got := c.wants(execution()); got == want {
					t.Errorf("not denied by %v: %v", f, got)
				}
			}
		})
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
	for name, test := range map[string]struct {
		filters []*api.FieldFilter
		want    *api.ProcessExec
	}{
		"exclude":  {[]*api.FieldFilter{fields(exclude, "process", "parent.binary")}, &api.ProcessExec{Parent: &api.Process{Pid: wrapperspb.UInt32(6), Arguments: "-c y"}}},
		"include":  {[]*api.FieldFilter{fields(include, "parent.pid", "process.pod.name")}, &api.ProcessExec{Process: &api.Process{Pod: &api.Pod{Name: "web-1"}}, Parent: &api.Process{Pid: wrapperspb.UInt32(6)}}},
		"both":     {[]*api.FieldFilter{fields(exclude, "parent.binary", "parent.arguments"), fields(include, "parent")}, &api.ProcessExec{Parent: &api.Process{Pid: wrapperspb.UInt32(6)}}},
		"shorter":  {[]*api.FieldFilter{fields(include, "parent.pid", "parent")}, &api.ProcessExec{Parent: execution().GetProcessExec().Parent}},
		"other":    {[]*api.FieldFilter{elsewhere}, execution().GetProcessExec()},
		"inverted": {[]*api.FieldFilter{inverted}, &api.ProcessExec{Parent: execution().GetProcessExec().Parent}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newChoice(&api.GetEventsRequest{FieldFilters: test.filters})
			if err != nil {
				t.Fatal(err)
			}
			r := execution()
			c.cut(r)
			if !proto.Equal(r.GetProcessExec(), test.want) || r.NodeName != "n" {
				t.Errorf("got\n%s\nwant\n%s", prototext.Format(r), prototext.Format(test.want))
			}
		})
	}
}

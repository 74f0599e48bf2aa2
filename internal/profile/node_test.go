package profile

import (
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
)

// fakeRecorder returns what the kernel might have counted in this very process.
type fakeRecorder struct {
	opts  bpf.StackOptions
	found []bpf.AddressSpace
	out   bpf.StackProfile
	err   error
}

func (f *fakeRecorder) RecordStacks(_ context.Context, _ time.Duration, o bpf.StackOptions, found func(bpf.AddressSpace, event.Process)) (*bpf.StackProfile, error) {
	f.opts = o
	for _, id := range f.found {
		p := event.Process{PID: id.PID, CgroupID: uint64(id.PID)}
		copy(p.Comm[:], "worker \xff")
		found(id, p)
	}
	out := f.out
	out.Samples = slices.Clone(f.out.Samples)
	return &out, f.err
}

// inThisProcess is an address in a function of this program.
func inThisProcess(function any) uint64 { return uint64(reflect.ValueOf(function).Pointer()) }

// spaces of the fake recorder: this process, one that has gone, a kernel thread.
var (
	here   = bpf.AddressSpace{ID: 0xffff1, PID: uint32(os.Getpid())}
	gone   = bpf.AddressSpace{ID: 0xffff2, PID: 1<<22 + 1}
	thread = bpf.AddressSpace{PID: 2}
)

func newFakeNode(f *fakeRecorder) *Node {
	return NewNode(NodeOptions{
		Recorder: f, Proc: "/proc", Sys: "/sys",
		Container: func(p *event.Process, _ bool) string {
			if p.PID == here.PID {
				return "abc"
			}
			return ""
		},
		Cgroup: func(container string) (uint64, int, bool) { return 77, 3, container == "abc" },
	})
}

func fakeStacks() *fakeRecorder {
	return &fakeRecorder{
		found: []bpf.AddressSpace{here, gone, thread},
		out: bpf.StackProfile{
			Begin: time.Unix(1_700_000_000, 5), Duration: 3 * time.Second, Hz: 100,
			Taken: 40, Recorded: 9, Idle: 20, Filtered: 1, StacksFull: 8, SamplesFull: 2, Missed: 3, Truncated: 1, SpacesLost: 4,
			Samples: []bpf.StackSample{
				{Space: here, User: []uint64{inThisProcess(TestNodeProfile), inThisProcess(spinSelf) + 1, 1}, Count: 4},
				{Space: gone, User: []uint64{0x1234}, Count: 3},
				{Space: thread, Kernel: []uint64{0xffffffff00000000}, Count: 2},
			},
		},
	}
}

// functions lists what a sample's frames are called, innermost first.
func functions(s *profile.Sample) (names []string) {
	for _, l := range s.Location {
		name := "?"
		if len(l.Line) > 0 {
			name = l.Line[0].Function.Name
		}
		names = append(names, name[strings.LastIndex(name, "/")+1:])
	}
	return names
}

func TestNodeProfile(t *testing.T) {
	n := newFakeNode(fakeStacks())
	raw, err := n.Record(t.Context(), Request{Kind: CPU, Duration: 3 * time.Second})
	p := parse(t, raw, err)
	if p.Period != 10_000_000 || p.DurationNanos != 3e9 || p.TimeNanos != 1_700_000_000_000_000_005 || p.DefaultSampleType != "cpu" {
		t.Errorf("period %d, duration %d, time %d, %s", p.Period, p.DurationNanos, p.TimeNanos, p.DefaultSampleType)
	}
	if len(p.Sample) != 3 {
		t.Fatalf("%d samples, want 3", len(p.Sample))
	}
	s := p.Sample[0]
	if got := strings.Join(functions(s), " "); got != "profile.TestNodeProfile profile.spinSelf ?" {
		t.Errorf("frames are %s", got)
	}
	if s.Value[0] != 4 || s.Value[1] != 40_000_000 || s.Label["process"][0] != "worker �" || s.Label["container"][0] != "abc" || s.NumLabel["pid"][0] != int64(here.PID) {
		t.Errorf("values %v, labels %v %v", s.Value, s.Label, s.NumLabel)
	}
	m := s.Location[0].Mapping
	if exe, _ := os.Executable(); m.File != exe || m.Start == 0 || m.Limit <= s.Location[0].Address || !m.HasFunctions {
		t.Errorf("mapping %+v, address %#x", m, s.Location[0].Address)
	}
	for _, want := range []string{
		"taken 40, lost 10", "recorded 9", "idle 20", "filtered 1", "stacks_full 8", "samples_full 2", "missed 3", "stacks cut short 1",
		"address spaces lost 4", "processes gone before they could be read 1",
	} {
		if !slices.Contains(p.Comments, want) {
			t.Errorf("no comment %q in %q", want, p.Comments)
		}
	}
	stats := n.Stats()[CPU]
	if stats.Profiles != 1 || stats.Outcomes[0] != (OutcomeStat{"recorded", 9}) || stats.Outcomes[4] != (OutcomeStat{"stacks_full", 8}) {
		t.Errorf("statistics %+v", stats)
	}
}

// What the kernel cannot tell apart is left out afterwards, and counted as left out.
func TestNodeProfileOfAContainer(t *testing.T) {
	for container, want := range map[string]struct {
		samples int
		cgroup  uint64
		comment string
	}{
		"abc": {1, 77, "recorded 4"}, Host: {2, 0, "recorded 5"}, "def": {0, 0, "filtered 10"}, "": {3, 0, "recorded 9"},
	} {
		f := fakeStacks()
		raw, err := newFakeNode(f).Record(t.Context(), Request{Container: container})
		p := parse(t, raw, err)
		if len(p.Sample) != want.samples || f.opts.CgroupID != want.cgroup || !slices.Contains(p.Comments, want.comment) {
			t.Errorf("%q: %d samples of cgroup %d, want %d and %d; comments %q", container, len(p.Sample), f.opts.CgroupID, want.samples, want.cgroup, p.Comments)
		}
	}
}

// Drops have their reason, slow calls their name as the innermost frame.
func TestCauses(t *testing.T) {
	f := &fakeRecorder{out: bpf.StackProfile{Samples: []bpf.StackSample{{What: "no_socket", Kernel: []uint64{0xffffffff00000000}, Count: 7, NS: 9}}}}
	for kind, want := range map[Kind]struct {
		types  string
		values []int64
	}{Drops: {"drops", []int64{7}}, Slow: {"calls time", []int64{7, 9}}} {
		raw, err := newFakeNode(f).Record(t.Context(), Request{Kind: kind})
		p := parse(t, raw, err)
		var types []string
		for _, v := range p.SampleType {
			types = append(types, v.Type)
		}
		if strings.Join(types, " ") != want.types || !slices.Equal(p.Sample[0].Value, want.values) || functions(p.Sample[0])[0] != "[no_socket]" {
			t.Errorf("%v: %q %v %q", kind, types, p.Sample[0].Value, functions(p.Sample[0]))
		}
	}
}

func TestNodeErrors(t *testing.T) {
	other := errors.New("load profile: permission denied")
	for _, test := range []struct{ err, want error }{
		{bpf.ErrProfiling, ErrBusy}, {bpf.ErrNoSyscall, ErrSyscall}, {other, other}, {context.Canceled, context.Canceled},
	} {
		n := newFakeNode(&fakeRecorder{err: test.err})
		if raw, err := n.Record(t.Context(), Request{}); !errors.Is(err, test.want) || raw != nil {
			t.Errorf("%v: %v, want %v", test.err, err, test.want)
		}
		if n.Stats()[CPU].Profiles != 0 {
			t.Error("a profile that failed is counted")
		}
	}
}

// The sensor's own frames on top of a kernel stack say nothing.
func TestWithoutMachinery(t *testing.T) {
	all, named := []place{}, map[place]name{}
	for i, function := range []string{"bpf_prog_1234_drop", "bpf_trace_run3", "__traceiter_kfree_skb", "kfree_skb_reason", "udp_rcv"} {
		p := place{kernel: true, address: uint64(i + 1)}
		all, named[p] = append(all, p), name{function: function}
	}
	user := place{mapping: "x", address: 9}
	named[user] = name{function: "bpf_prog_of_a_user"}
	want := []place{all[3], all[4], user}
	if got := withoutMachinery(append(all, user), named); !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
}

package profile

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// parse reads a profile as every tool does.
func parse(t *testing.T, raw []byte, err error) *profile.Profile {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// heaviest is the function that most of the value of a type is spent in.
func heaviest(t *testing.T, p *profile.Profile, sampleType string) (function string, value int64) {
	t.Helper()
	index, err := p.SampleIndexByName(sampleType)
	if err != nil {
		t.Fatal(err)
	}
	flat := map[string]int64{}
	for _, s := range p.Sample {
		if len(s.Location) > 0 && len(s.Location[0].Line) > 0 {
			flat[s.Location[0].Line[0].Function.Name] += s.Value[index]
		}
	}
	for f, v := range flat {
		if v > value {
			function, value = f, v
		}
	}
	return function, value
}

var leaked, kept [][]byte

// chunk is so much more than the run time's distance between two samples, half a MiB,
// that each one is sampled.
const chunk = 8 << 20

//go:noinline
func leak(n int) {
	for range n {
		leaked = append(leaked, make([]byte, chunk))
	}
}

//go:noinline
func keep(n int) {
	for range n {
		kept = append(kept, make([]byte, chunk))
	}
}

// What is leaked between on and off is at the top of the difference; what was
// there before is not in it, however large.
func TestHeapDifferenceShowsTheLeak(t *testing.T) {
	defer func() { leaked, kept = nil, nil }()
	s := NewSelf()
	keep(8)
	if err := s.SwitchHeap("on"); err != nil {
		t.Fatal(err)
	}
	leak(2)
	raw, err := s.Heap()
	if f, v := heaviest(t, parse(t, raw, err), "inuse_space"); !strings.HasSuffix(f, ".leak") || v < 15<<20 {
		t.Errorf("while on: %s with %d bytes, want leak with 16 MiB", f, v)
	}
	if err := s.SwitchHeap("off"); err != nil {
		t.Fatal(err)
	}
	keep(8) // after the end
	raw, err = s.Heap()
	p := parse(t, raw, err)
	if f, v := heaviest(t, p, "inuse_space"); !strings.HasSuffix(f, ".leak") || v < 15<<20 || v > 20<<20 {
		t.Errorf("after off: %s with %d bytes, want leak with 16 MiB", f, v)
	}
	if p.DurationNanos <= 0 {
		t.Errorf("duration %d", p.DurationNanos)
	}
	if err := s.SwitchHeap("empty"); err != nil {
		t.Fatal(err)
	}
	raw, err = s.Heap()
	if f, v := heaviest(t, parse(t, raw, err), "inuse_space"); !strings.HasSuffix(f, ".keep") || v < 120<<20 {
		t.Errorf("without a record: %s with %d bytes, want keep with 128 MiB", f, v)
	}
}

//go:noinline
func spinSelf(until time.Time) (n int) {
	for time.Now().Before(until) {
		for i := range 10_000 {
			n += i * n
		}
	}
	return n
}

func TestCPURecord(t *testing.T) {
	s := NewSelf()
	if _, err := s.CPU(); !errors.Is(err, ErrState) {
		t.Errorf("CPU without a record: %v, want ErrState", err)
	}
	if err := s.SwitchCPU("on"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CPU(); !errors.Is(err, ErrState) {
		t.Errorf("CPU of a record under way: %v, want ErrState", err)
	}
	if _, err := s.RecordCPU(t.Context(), time.Hour); !errors.Is(err, ErrBusy) {
		t.Errorf("a second profile: %v, want ErrBusy", err)
	}
	spinSelf(time.Now().Add(300 * time.Millisecond))
	if err := s.SwitchCPU("off"); err != nil {
		t.Fatal(err)
	}
	raw, err := s.CPU()
	p := parse(t, raw, err)
	found := false
	for _, f := range p.Function {
		found = found || strings.HasSuffix(f.Name, ".spinSelf")
	}
	if !found {
		t.Errorf("spinSelf is not among the %d functions", len(p.Function))
	}
}

// A CPU record that nobody ends ends by itself, and holds what there is.
func TestRecordExpires(t *testing.T) {
	s := NewSelf()
	s.longest = time.Millisecond
	if err := s.SwitchCPU("on"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, cpu := s.Status(); cpu == Off {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is still on")
		}
		time.Sleep(time.Millisecond)
	}
	raw, err := s.CPU()
	parse(t, raw, err)
}

// A client that goes away gets no profile, and the profiler is free again.
func TestRecordCPUEndsWithItsContext(t *testing.T) {
	s := NewSelf()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.RecordCPU(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if raw, err := s.RecordCPU(t.Context(), time.Millisecond); err != nil || len(raw) == 0 {
		t.Errorf("after it: %d bytes, %v", len(raw), err)
	}
}

// TestSwitches walks through every state with every word.
func TestSwitches(t *testing.T) {
	s := NewSelf()
	defer func() { _ = s.SwitchCPU("off") }()
	for _, recorder := range []struct {
		name   string
		to     func(string) error
		status func() State
	}{
		{"heap", s.SwitchHeap, func() State { h, _ := s.Status(); return h }},
		{"cpu", s.SwitchCPU, func() State { _, c := s.Status(); return c }},
	} {
		for _, step := range []struct {
			word  string
			want  error
			state State
		}{
			{"off", ErrState, Empty}, {"empty", nil, Empty}, {"ON", ErrWord, Empty}, {"", ErrWord, Empty},
			{"on", nil, On}, {"on", ErrState, On}, {"empty", ErrState, On},
			{"off", nil, Off}, {"off", ErrState, Off},
			{"on", nil, On}, {"off", nil, Off}, {"empty", nil, Empty},
		} {
			if err := recorder.to(step.word); !errors.Is(err, step.want) || recorder.status() != step.state {
				t.Fatalf("%s %s: %v and then %s, want %v and %s", recorder.name, step.word, err, recorder.status(), step.want, step.state)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	s := NewSelf()
	for _, name := range s.Names() {
		var out bytes.Buffer
		err := s.Lookup(&out, name, 0, false)
		parse(t, out.Bytes(), err)
	}
	var text bytes.Buffer
	if err := s.Lookup(&text, "goroutine", 2, true); err != nil || !strings.Contains(text.String(), "TestLookup") {
		t.Errorf("goroutines: %v\n%s", err, text.String())
	}
	if err := s.Lookup(&text, "nothing", 0, false); !errors.Is(err, ErrName) {
		t.Errorf("no such profile: %v, want ErrName", err)
	}
	if err := s.Trace(t.Context(), &text, time.Millisecond); err != nil {
		t.Error(err)
	}
}

package gvisor

import (
	"bytes"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// now is the time of translations: an hour after the boot.
var now = clocks{wall: 1_700_000_000_000_000_000, boot: uint64(time.Hour)}

func translate(m wire.Message) (*event.Event, bool) {
	t, ev := translator{editor: &event.Editor{}}, &event.Event{}
	ok := t.event(m, now, ev)
	return ev, ok
}

// TestTimes: an event has the sandbox's time where that can be true.
func TestTimes(t *testing.T) {
	for _, test := range []struct {
		name   string
		timeNs int64
		want   uint64
	}{
		{"none", 0, now.boot},
		{"now", now.wall, now.boot},
		{"a second ago", now.wall - int64(time.Second), now.boot - uint64(time.Second)},
		{"oldest", now.wall - int64(MaxAge), now.boot - uint64(MaxAge)},
		{"too old", now.wall - int64(MaxAge) - 1, now.boot},
		{"future", now.wall + 1, now.boot},
		{"negative", -now.wall, now.boot},
	} {
		ev, ok := translate(&wire.ContainerStart{Origin: wire.Origin{ContextData: wire.Context{TimeNs: test.timeNs}}})
		if !ok || ev.TimeNS != test.want {
			t.Errorf("%s: %d, want %d", test.name, ev.TimeNS, test.want)
		}
	}
	early := clocks{wall: now.wall, boot: uint64(time.Second)}
	var ev event.Event
	tr := translator{editor: &event.Editor{}}
	tr.event(&wire.ContainerStart{Origin: wire.Origin{ContextData: wire.Context{TimeNs: now.wall - int64(MaxAge)}}}, early, &ev)
	if ev.TimeNS != 0 {
		t.Errorf("an event from before the boot is at %d", ev.TimeNS)
	}
	if got := now.toBoot(now.wall - int64(time.Minute)); got != uint64(59*time.Minute) {
		t.Errorf("a minute ago is %v after the boot", time.Duration(got))
	}
	if now.toBoot(0) != 0 || now.toBoot(now.wall-int64(2*time.Hour)) != 0 {
		t.Error("what is unknown or before the boot has a time")
	}
}

// TestNoEvent: messages that tell of no event, or of one that did not come about.
func TestNoEvent(t *testing.T) {
	inet := []byte{unix.AF_INET, 0, 0, 80, 10, 0, 0, 1}
	ended := wire.Call{HasExit: true}
	refused := wire.Call{HasExit: true, Exit: wire.Exit{Result: -1, Errorno: int64(unix.ECONNREFUSED)}}
	for name, m := range map[string]wire.Message{
		"new thread":           &wire.SentryClone{CreatedThreadID: 8, CreatedThreadGroupID: 7},
		"connect begins":       &wire.Connect{Address: inet},
		"connect refused":      &wire.Connect{Call: refused, Address: inet},
		"connect elsewhere":    &wire.Connect{Call: ended, Address: []byte("\x01\x00/run/x")},
		"connect to half":      &wire.Connect{Call: ended, Address: inet[:7]},
		"connect to half of 6": &wire.Connect{Call: ended, Address: append([]byte{unix.AF_INET6}, make([]byte, 22)...)},
		"connect to nothing":   &wire.Connect{Call: ended},
		"accept begins":        &wire.Accept{Address: inet},
		"accept fails":         &wire.Accept{Call: refused, Address: inet},
		"listen fails":         &wire.Listen{Call: refused, Address: inet},
		"exit of a thread": &wire.SentryTaskExit{ExitStatus: wire.ExitStatus{
			Origin: wire.Origin{ContextData: wire.Context{ThreadID: 8, ThreadGroupID: 7}}}},
		"exit of nobody": &wire.SentryTaskExit{},
		"open":           &wire.Open{Call: ended},
	} {
		if ev, ok := translate(m); ok {
			t.Errorf("%s became %v", name, ev.Point)
		}
	}
}

// TestOneExitEach: a sandbox that tells of the same end in two messages is heard once.
func TestOneExitEach(t *testing.T) {
	end := wire.ExitStatus{Origin: wire.Origin{ContextData: wire.Context{ThreadID: 7, ThreadGroupID: 7}}}
	task, notify := &wire.SentryTaskExit{ExitStatus: end}, &wire.SentryExitNotifyParent{ExitStatus: end}
	for _, order := range [][]wire.Message{{task, notify, task, notify}, {notify, notify}} {
		tr, events := translator{editor: &event.Editor{}}, 0
		for _, m := range order {
			if tr.event(m, now, &event.Event{}) {
				events++
			}
		}
		if events != 2 {
			t.Errorf("%d events of two ends", events)
		}
	}
}

// TestArguments: they are cut at the bound of events, and only there.
func TestArguments(t *testing.T) {
	x := bytes.Repeat([]byte{'x'}, event.ArgsLen)
	for _, test := range []struct {
		name      string
		args      [][]byte
		want      int
		truncated bool
	}{
		{"none", nil, 0, false},
		{"empty ones", [][]byte{{}, {}}, 2, false},
		{"just fits", [][]byte{x[:event.ArgsLen-1]}, event.ArgsLen, false},
		{"one too many", [][]byte{x}, event.ArgsLen, true},
		{"full, and another", [][]byte{x[:event.ArgsLen-1], {}}, event.ArgsLen, true},
		{"many", slices.Repeat([][]byte{{'x'}}, event.ArgsLen), event.ArgsLen, true},
		{"most that are decoded", slices.Repeat([][]byte{{}}, wire.MaxList), event.ArgsLen, true},
	} {
		ev, _ := translate(&wire.SentryExec{Argv: test.args})
		if s := ev.Texts[event.TextArgs]; int(s.Len) != test.want || s.Truncated != test.truncated {
			t.Errorf("%s: %d bytes, truncated %v, want %d, %v", test.name, s.Len, s.Truncated, test.want, test.truncated)
		}
	}
}

// TestTranslateAllocations: an event costs no memory once there is room for its texts.
func TestTranslateAllocations(t *testing.T) {
	d, tr, ev := wire.NewDecoder(), translator{editor: &event.Editor{}}, &event.Event{}
	for _, datagram := range recording(t, "testdata/sandbox.tracereplay") {
		b := []byte(datagram)
		if _, _, err := d.Decode(b); err != nil {
			continue // an error is told in words
		}
		again := func() {
			_, m, _ := d.Decode(b)
			tr.event(m, now, ev)
		}
		again()
		if n := testing.AllocsPerRun(20, again); n != 0 {
			t.Errorf("%v allocations for % x", n, b[:8])
		}
	}
}

// FuzzTranslate: whatever a sandbox sends, an event of it is one of the known
// points, its texts are valid UTF-8 within their bounds, and its time is past.
func FuzzTranslate(f *testing.F) {
	for _, datagram := range recording(f, "testdata/sandbox.tracereplay") {
		f.Add([]byte(datagram))
	}
	d, tr, ev := wire.NewDecoder(), translator{editor: &event.Editor{}}, &event.Event{}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		_, m, err := d.Decode(datagram)
		if err != nil || !tr.event(m, now, ev) {
			return
		}
		if !slices.Contains(told, ev.Point) || ev.Source != event.SourceGVisor {
			t.Errorf("source %v, point %v", ev.Source, ev.Point)
		}
		if ev.TimeNS > now.boot || ev.TimeNS < now.boot-uint64(MaxAge) {
			t.Errorf("at %v", time.Duration(ev.TimeNS))
		}
		for kind := range event.Text(event.TextKinds) {
			if text := ev.Text(kind); !utf8.Valid(text) || len(text) > event.ArgsLen {
				t.Errorf("text %d is %q", kind, text)
			}
		}
		if !utf8.Valid(ev.Process.Comm[:]) || !utf8.Valid(ev.Child.Comm[:]) {
			t.Errorf("names %q, %q", ev.Process.Comm, ev.Child.Comm)
		}
	})
}

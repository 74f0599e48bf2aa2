package remote

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// one makes an event of the point of that name.
func one(t *testing.T, point string, args ...uint64) event.Event {
	t.Helper()
	p, ok := event.ParseCallPoint(point)
	if !ok {
		t.Fatalf("no point %s", point)
	}
	ev := event.Event{Point: event.Syscall, Call: event.Call{Number: p.Number, Exit: p.Exit}}
	copy(ev.Call.Args[:], args)
	if p.Raw {
		ev.Fields = event.FieldRaw
	}
	return ev
}

// What goes over the wire for calls, byte for byte: put together by hand from the
// protocol's field numbers. Numbers of calls are those of amd64.
func TestGoldenCalls(t *testing.T) {
	var editor event.Editor
	execve := one(t, "syscall/execve/enter")
	editor.Set(&execve, event.TextPath, []byte("/bin/ls"), false)
	editor.Set(&execve, event.TextArgs, []byte("ls\x005\x00"), false)
	editor.Set(&execve, event.TextEnv, []byte("A=1\x00"), false)
	failed := one(t, "syscall/openat/exit", ^uint64(99), 0, 0x80000, 0)
	failed.Call.Result = -2
	editor.Set(&failed, event.TextPath, []byte("/x"), false)
	closed := one(t, "syscall/close/enter", 3)
	editor.Set(&closed, event.TextFD, []byte("/x"), false)
	pathed := closed
	pathed.Fields = event.FieldFDPath
	forked := one(t, "syscall/fork/exit")
	forked.Call.Result = 110
	raw := one(t, "syscall/sysno/35/enter", 1, 2)
	raw.Fields |= event.FieldGroupID
	raw.Process.PID = 7
	for name, test := range map[string]struct {
		ev   event.Event
		want string
	}{
		"raw":    {raw, "0800 0600 00000000" + "0a02 2007" + "2023" + "2801" + "3002"},
		"raw, 0": {one(t, "syscall/sysno/35/exit"), "0800 0600 00000000" + "1200" + "2023"},
		"execve": {execve, "0800 0b00 00000000" + "183b" + "32072f62696e2f6c73" + "3a026c73" + "3a0135"},
		"openat": {failed, "0800 0700 00000000" + "1202 1002" + "188102" + "209cffffffffffffffff01" + "32022f78" + "38808020"},
		"close":  {closed, "0800 0800 00000000" + "1803" + "2003"},
		"path":   {pathed, "0800 0800 00000000" + "1803" + "2003" + "2a022f78"},
		"fork":   {forked, "0800 1d00 00000000" + "1202 086e" + "1839"},
	} {
		var v converter
		got := new(wire.Encoder).Append(nil, v.message(&test.ev), 0)
		want, err := hex.DecodeString(strings.ReplaceAll(test.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: % x, want\n% x", name, got, want)
		}
	}
}

// Every call that has a schema has a message of its own, whose values survive the wire.
func TestEverySchemaHasAMessage(t *testing.T) {
	var editor event.Editor
	for _, s := range event.CallSchemas() {
		for _, exit := range []bool{false, true} {
			ev := event.Event{Point: event.Syscall, Fields: event.AllFields, Call: event.Call{Number: s.Number, Exit: exit, Args: [6]uint64{11, 12, 13, 14, 15, 16}}}
			editor.Set(&ev, event.TextPath, []byte("/path"), false)
			editor.Set(&ev, event.TextArgs, []byte("a\x00"), false)
			editor.Set(&ev, event.TextEnv, []byte("B=1\x00"), false)
			editor.Set(&ev, event.TextIn, bytes.Repeat([]byte{1}, 32), false)
			editor.Set(&ev, event.TextOut, bytes.Repeat([]byte{2}, 32), false)
			editor.Set(&ev, event.TextFD, []byte("/fd"), false)
			var v converter
			m := v.message(&ev)
			if _, raw := m.(*wire.Raw); raw {
				t.Errorf("%s has no message", s.Name)
				continue
			}
			_, back, err := wire.NewDecoder().Decode(new(wire.Encoder).Append(nil, m, 0))
			if diff := cmp.Diff(m, back, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%s: %v (-sent +received):\n%s", s.Name, err, diff)
			}
			if c := back.(interface{ Syscall() *wire.Call }).Syscall(); c.HasExit != exit || c.Sysno != uint64(s.Number) {
				t.Errorf("%s: %+v", s.Name, c)
			}
		}
	}
}

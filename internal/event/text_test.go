package event

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEditorMakesTextsValid(t *testing.T) {
	long := strings.Repeat("x", PathLen)
	for name, test := range map[string]struct {
		raw       string
		truncated bool
		want      string
		span      Span
	}{
		"plain":                  {"/bin/sh", false, "/bin/sh", Span{Len: 7}},
		"empty":                  {"", false, "", Span{}},
		"at the bound":           {long, false, long, Span{Len: PathLen}},
		"above the bound":        {long + "y", false, long, Span{Len: PathLen, Truncated: true}},
		"not UTF-8":              {"a\xff\xc3\x28z", false, "a??(z", Span{Len: 5}},
		"cut within a character": {"a\xe2\x82", true, "a", Span{Len: 1, Truncated: true}},
		"cut after a character":  {"a\u20ac", true, "a\u20ac", Span{Len: 4, Truncated: true}},
		"cut and never valid":    {"\xff\xff\xff\xff\xff", true, "?????", Span{Len: 5, Truncated: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var (
				ed Editor
				ev Event
			)
			ed.Set(&ev, TextPath, []byte(test.raw), test.truncated)
			if got := string(ev.Text(TextPath)); got != test.want || ev.Texts[TextPath] != test.span {
				t.Errorf("%q, %+v; want %q, %+v", got, ev.Texts[TextPath], test.want, test.span)
			}
			did := ed.Sanitized()
			if did.Cut > 0 != test.span.Truncated || did.Repaired > 0 != strings.Contains(test.want, "?") {
				t.Errorf("counted %+v", did)
			}
		})
	}
}

func TestEditorWithholdsArgumentsOnly(t *testing.T) {
	var (
		ed Editor
		ev Event
	)
	ed.KeepArguments(false)
	ed.Set(&ev, TextPath, []byte("/bin/login"), false)
	ed.Set(&ev, TextArgs, []byte("login\x00secret\x00"), false)
	if string(ev.Data) != "/bin/login" {
		t.Errorf("the event holds %q", ev.Data)
	}
	ed.KeepArguments(true)
	ed.Set(&ev, TextArgs, []byte("login\x00"), false)
	if string(ev.Text(TextArgs)) != "login\x00" {
		t.Errorf("arguments %q", ev.Text(TextArgs))
	}
}

func TestEditorRepairsNames(t *testing.T) {
	var ed Editor
	comm := [CommLen]byte{'a', 0xc3, 0xa9, 0xff}
	ed.Comm(&comm)
	if want := [CommLen]byte{'a', 0xc3, 0xa9, '?'}; comm != want {
		t.Errorf("%q", comm)
	}
}

// A copy stays what it was when the event is used for the next.
func TestCopiesShareNothing(t *testing.T) {
	var (
		ed       Editor
		ev, copy Event
	)
	ed.Set(&ev, TextCwd, []byte("/home"), false)
	clone := ev.Clone()
	ev.CopyTo(&copy, make([]byte, len(ev.Data)))
	ev.Reset()
	ed.Set(&ev, TextCwd, []byte("XXXXX"), false)
	if string(clone.Text(TextCwd)) != "/home" || string(copy.Text(TextCwd)) != "/home" {
		t.Errorf("copies changed: %q, %q", clone.Text(TextCwd), copy.Text(TextCwd))
	}
}

func TestReusedEventsDoNotAllocate(t *testing.T) {
	var (
		ed Editor
		ev Event
	)
	args := []byte(strings.Repeat("x", ArgsLen))
	if n := testing.AllocsPerRun(10, func() {
		ev.Reset()
		ed.Set(&ev, TextPath, args, false)
		ed.Set(&ev, TextArgs, args, false)
		ed.Set(&ev, TextCwd, args, false)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Ancestors are read as they were written, as many as there is room for.
func TestAncestors(t *testing.T) {
	var (
		list, before []byte
		wrote, read  int
	)
	exe := strings.Repeat("/x", 50)
	for ok := true; ok; wrote++ {
		before = list
		list, ok = AppendAncestor(list, ExecID{PID: uint32(wrote), ExecNS: 1 << 40}, exe)
	}
	if wrote--; wrote != AncestorsLen/(ancestorHead+len(exe)) || len(list) != len(before) {
		t.Errorf("%d ancestors in %d bytes", wrote, len(list))
	}
	var (
		ed Editor
		e  Event
	)
	ed.Set(&e, TextAncestors, list, false)
	for id, got := range e.Ancestors {
		if id.PID != uint32(read) || id.ExecNS != 1<<40 || string(got) != exe {
			t.Errorf("ancestor %d is %v with %s", read, id, got)
		}
		read++
	}
	if read != wrote {
		t.Errorf("%d were written, %d are read", wrote, read)
	}
}

func FuzzEditor(f *testing.F) {
	f.Add([]byte("a\xffb"), true)
	f.Fuzz(func(t *testing.T, raw []byte, truncated bool) {
		var (
			ed Editor
			ev Event
		)
		for i := range TextKinds {
			ed.Set(&ev, Text(i), raw, truncated)
			if got := ev.Text(Text(i)); !Text(i).binary() && !utf8.Valid(got) || len(got) > min(len(raw), bounds[i]) {
				t.Errorf("%q became %q", raw, got)
			}
		}
	})
}

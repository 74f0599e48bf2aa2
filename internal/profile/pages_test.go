package profile

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
)

// small is a profile of one process with two functions.
func small(t *testing.T) []byte {
	t.Helper()
	inner, outer := &profile.Function{ID: 1, Name: "innermost", Filename: "/etc/passwd"}, &profile.Function{ID: 2, Name: "</script><b>outer"}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}}, TimeNanos: 1, DurationNanos: int64(time.Second),
		Function: []*profile.Function{inner, outer},
		Location: []*profile.Location{{ID: 1, Line: []profile.Line{{Function: inner, Line: 1}}}, {ID: 2, Line: []profile.Line{{Function: outer}}}},
	}
	p.Sample = []*profile.Sample{{Location: p.Location, Value: []int64{5}, Label: map[string][]string{"process": {"nginx"}}}}
	raw, err := encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestViews(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", os.DevNull)
	pages := NewPages()
	id := pages.Keep("node", small(t))
	for view, want := range map[string][]string{
		"flamegraph": {"innermost", "nginx", "display: none"}, "top": {"innermost", "nginx"}, "peek?f=innermost": {"outer", "innermost"},
	} {
		name, _, _ := strings.Cut(view, "?")
		v, err := pages.View(id, name, httptest.NewRequest("GET", "/"+view, nil))
		if err != nil || v.Status != 200 {
			t.Errorf("%s: %+v, %v", view, v, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(string(v.Body), w) {
				t.Errorf("%s has no %q", view, w)
			}
		}
		if strings.Contains(string(v.Body), "</script><b>outer") {
			t.Errorf("%s: the name of a function is a part of the page", view)
		}
	}
	if v, err := pages.View(id, "top", httptest.NewRequest("GET", "/top?f=(", nil)); err != nil || v.Status != 400 {
		t.Errorf("a bad expression: %+v, %v", v, err)
	}
	if _, err := pages.View(id+1, "top", nil); !errors.Is(err, ErrGone) {
		t.Errorf("no such profile: %v", err)
	}
}

// TestByProcess: every stack ends with the process that it is of, and no stack gets
// into another one.
func TestByProcess(t *testing.T) {
	p, err := profile.ParseData(small(t))
	if err != nil {
		t.Fatal(err)
	}
	all := p.Location
	p.Sample = []*profile.Sample{
		{Location: all[:1], Value: []int64{1}, Label: map[string][]string{"process": {"nginx"}}},
		{Location: all[1:2], Value: []int64{1}, Label: map[string][]string{"process": {"redis"}}},
		{Location: all[:2], Value: []int64{1}, Label: map[string][]string{"process": {"nginx"}}},
		{Location: all[:2], Value: []int64{1}},
	}
	byProcess(p)
	var got []string
	for _, s := range p.Sample {
		got = append(got, strings.Join(functions(s), " "))
	}
	want := []string{"innermost nginx", "script><b>outer redis", "innermost script><b>outer nginx", "innermost script><b>outer"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	if err := p.CheckValid(); err != nil {
		t.Error(err)
	}
}

// What starts programs, reads source files or writes settings is not there, and no
// settings appear.
func TestOnlyHarmlessViews(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	t.Setenv("PATH", dir) // no dot to start
	pages := NewPages()
	id := pages.Keep("node", small(t))
	for _, view := range []string{"", "graph", "source", "disasm", "saveconfig", "deleteconfig", "download", "weblist", "flamegraph2", "../top"} {
		r := httptest.NewRequest("GET", "/x?config=mine&f=innermost", nil)
		if v, err := pages.View(id, view, r); !errors.Is(err, ErrGone) {
			t.Errorf("%q: %+v, %v, want ErrGone", view, v, err)
		}
	}
	for _, view := range Views {
		v, err := pages.View(id, view, httptest.NewRequest("GET", "/x?config=mine&f=innermost", nil))
		if err != nil || strings.Contains(string(v.Body), "root:") {
			t.Errorf("%s: %v, or the source file that the profile names", view, err)
		}
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(found) > 0 {
		t.Errorf("files appeared: %q, %v", found, err)
	}
}

// The last ones are kept, within both bounds.
func TestKeeping(t *testing.T) {
	pages := NewPages()
	for range MaxKept + 1 {
		pages.Keep("heap", []byte("x"))
	}
	if all := pages.List(); len(all) != MaxKept || all[0].ID != MaxKept+1 || all[MaxKept-1].ID != 2 {
		t.Errorf("kept: %+v", all)
	}
	half := make([]byte, MaxKeptBytes/2)
	pages.Keep("node", half)
	pages.Keep("node", half)
	if all := pages.List(); len(all) != 2 {
		t.Errorf("%d kept, want the two that fill the room", len(all))
	}
	if id := pages.Keep("node", make([]byte, MaxKeptBytes+1)); id != 0 || len(pages.List()) != 2 {
		t.Errorf("one that is too large got number %d", id)
	}
}

// Several may look at several profiles at the same time.
func TestViewsAtOnce(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", os.DevNull)
	pages := NewPages()
	raw := small(t)
	var wait sync.WaitGroup
	for i := range 4 {
		id := pages.Keep("node", raw)
		wait.Go(func() {
			for range 3 {
				if v, err := pages.View(id, Views[i%len(Views)], httptest.NewRequest("GET", "/?f=inner", nil)); err != nil || v.Status != 200 {
					t.Errorf("%v, %v", v, err)
				}
			}
		})
	}
	wait.Wait()
}

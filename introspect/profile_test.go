package introspect

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	ours "github.com/sonde-ebpf/sonde/internal/profile"
)

// TestRecords switches both records through their states and gets what they hold.
func TestRecords(t *testing.T) {
	sources := fakeSources(t)
	var log logged
	h := newHandler(sources, &log, loopback)
	for _, step := range []struct {
		method, target, body string
		status               int
		text                 string // part of the answer; "" for a profile
	}{
		{"GET", "/profile", "", 200, `{"cpu":"empty","heap":"empty","supports_cpu":true,"supports_heap":true}`},
		{"GET", "/profile/heap", "", 200, ""},
		{"GET", "/profile/cpu", "", 409, `"error":"the record is empty`},
		{"POST", "/profile/heap", "on\n", 200, `"heap":"on"`},
		{"POST", "/profile/heap", "on", 409, `"error":"the record is on already"`},
		{"GET", "/profile/heap", "", 200, ""},
		{"POST", "/profile/heap", "off", 200, `"heap":"off"`},
		{"POST", "/profile/heap", "off", 409, `"error":"the record is off, not on"`},
		{"GET", "/profile/heap", "", 200, ""},
		{"POST", "/profile/heap", "empty", 200, `"heap":"empty"`},
		{"POST", "/profile/heap", "start", 400, `"error":"write on, off or empty"`},
		{"POST", "/profile/heap", strings.Repeat("x", maxSwitch+1), 413, `"error"`},
		{"POST", "/profile/cpu", "on", 200, `"cpu":"on"`},
		{"GET", "/profile/cpu", "", 409, `"error":"the record is on`},
		{"GET", "/debug/pprof/profile?seconds=1", "", 409, `"error"`},
		{"POST", "/profile/cpu", "off", 200, `"cpu":"off"`},
		{"GET", "/profile/cpu", "", 200, ""},
		{"DELETE", "/profile/cpu", "", 405, `"error"`},
		{"GET", "/profile/disk", "", 404, `"error"`},
	} {
		w := ask(h, step.method, step.target, step.body)
		name := step.method + " " + step.target + " " + step.body
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.text) {
			t.Errorf("%s: %d %.200q, want %d %q", name, w.Code, w.Body, step.status, step.text)
		}
		if step.text == "" {
			wantProfile(t, name, w.Header(), w.Body.Bytes())
		} else if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %q is no JSON", name, w.Body)
		}
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 9 {
		t.Errorf("%d lines on record, want one for each POST, 9:\n%s", len(lines), log.String())
	}
	if want := `path=/profile/heap`; !strings.Contains(lines[0], want) || !strings.Contains(lines[0], `change="switch to \"on\"" ok=true`) {
		t.Errorf("record %s", lines[0])
	}
}

func wantProfile(t *testing.T, name string, header http.Header, raw []byte) {
	t.Helper()
	if p, err := profile.ParseData(raw); err != nil || len(p.SampleType) == 0 {
		t.Errorf("%s: %v, no profile: %.100q", name, err, raw)
	}
	if got := header.Get("Content-Type"); got != "application/octet-stream" {
		t.Errorf("%s: content type %q", name, got)
	}
}

func TestRuntimeProfiles(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	for _, target := range []string{"/debug/pprof/heap?gc=1", "/debug/pprof/goroutine", "/debug/pprof/profile?seconds=1"} {
		w := ask(h, "GET", target, "")
		wantProfile(t, target, w.Header(), w.Body.Bytes())
	}
	for target, want := range map[string]string{
		"/debug/pprof/":                          `"goroutine"`,
		"/debug/pprof/goroutine?debug=2":         "TestRuntimeProfiles",
		"/debug/pprof/trace?seconds=1":           "go 1.",
		"/debug/pprof/profile?seconds=0":         `"error":"parameter seconds is \"0\": write a number from 1 to 300"`,
		"/debug/pprof/profile?seconds=301":       `"error":"parameter seconds is \"301\"`,
		"/debug/pprof/trace?seconds=301":         `"error":"parameter seconds is \"301\"`,
		"/debug/pprof/heap?debug=3":              `"error":"parameter debug`,
		"/debug/pprof/heap?gc=2":                 `"error":"parameter gc`,
		"/debug/pprof/heap?seconds=1":            `"error":"parameter \"seconds\" is not known here`,
		"/debug/pprof/" + strings.Repeat("x", 9): `"error":"the run time has no profile called \"xxxxxxxxx\""`,
	} {
		if w := ask(h, "GET", target, ""); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %.200q, want %s", target, w.Code, w.Body, want)
		}
	}
}

// TestRecordsNeedTheWriteSwitch: without it nothing is switched, and that is on record.
func TestRecordsNeedTheWriteSwitch(t *testing.T) {
	sources := fakeSources(t)
	var log logged
	h := newHandler(sources, &log, door{listener: fakeListener{}})
	for _, path := range []string{"/profile/heap", "/profile/cpu"} {
		if w := ask(h, "POST", path, "on"); w.Code != 403 {
			t.Errorf("POST %s: status %d, want 403", path, w.Code)
		}
	}
	if heap, cpu := sources.Self.Status(); heap != ours.Empty || cpu != ours.Empty {
		t.Errorf("heap is %s, cpu is %s", heap, cpu)
	}
	if n := strings.Count(log.String(), "ok=false"); n != 2 {
		t.Errorf("%d records, want 2:\n%s", n, log.String())
	}
}

// fakeNodeProfiles returns a profile that says what it was asked for.
type fakeNodeProfiles struct {
	request ours.Request
	err     error
}

func (f *fakeNodeProfiles) Record(_ context.Context, r ours.Request) ([]byte, error) {
	f.request = r
	return []byte("profile"), f.err
}

func TestNodeProfileRequests(t *testing.T) {
	sources := fakeSources(t)
	node := &fakeNodeProfiles{}
	sources.Node = node
	h := newHandler(sources, nil, loopback)
	base := ours.Request{Hz: 99, Over: 10 * time.Millisecond, Duration: 10 * time.Second}
	with := func(change func(*ours.Request)) ours.Request { r := base; change(&r); return r }
	for target, want := range map[string]ours.Request{
		"/profile/node": base,
		"/profile/node?seconds=300&hz=999&pid=4194303": with(func(r *ours.Request) { r.Duration, r.Hz, r.PID = 300*time.Second, 999, 4194303 }),
		"/profile/node?container=" + webID[:12]:        with(func(r *ours.Request) { r.Container = webID }),
		"/profile/node?container=host":                 with(func(r *ours.Request) { r.Container = "host" }),
		"/profile/drops?seconds=1":                     with(func(r *ours.Request) { r.Kind, r.Duration = ours.Drops, time.Second }),
		"/profile/slow?syscall=read&over=1h&seconds=2": {},
		"/profile/slow?syscall=read&over=2s&seconds=2&pid=7": with(func(r *ours.Request) {
			r.Kind, r.Syscall, r.Over, r.Duration, r.PID = ours.Slow, "read", 2*time.Second, 2*time.Second, 7
		}),
	} {
		node.request = ours.Request{}
		w := ask(h, "GET", target, "")
		if diff := cmp.Diff(want, node.request); diff != "" {
			t.Errorf("%s: %d (-want +got):\n%s", target, w.Code, diff)
		}
		if refused := want == (ours.Request{}); refused != (w.Code == 400) || !refused && w.Body.String() != "profile" {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for target, want := range map[string]int{
		"/profile/node?seconds=0": 400, "/profile/node?seconds=301": 400, "/profile/node?hz=1000": 400, "/profile/node?hz=0": 400,
		"/profile/node?pid=0": 400, "/profile/node?pid=4194304": 400, "/profile/node?container=": 400, "/profile/node?container=dddddddddddd": 404,
		"/profile/slow?over=-1s": 400, "/profile/slow?over=10": 400, "/profile/drops?pid=1": 400, "/profile/node?over=1s": 400,
	} {
		if w := ask(h, "GET", target, ""); w.Code != want {
			t.Errorf("%s: %d %s, want %d", target, w.Code, w.Body, want)
		} else {
			wantError(t, target, w.Body.Bytes())
		}
	}
	for err, want := range map[error]int{
		ours.ErrBusy: 409, ours.ErrSyscall: 400, errors.ErrUnsupported: 501, errors.New("load profile: permission denied"): 500, context.DeadlineExceeded: 503,
	} {
		node.err = err
		if w := ask(h, "GET", "/profile/slow?syscall=x", ""); w.Code != want {
			t.Errorf("%v: %d, want %d", err, w.Code, want)
		}
	}
}

package introspect

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

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

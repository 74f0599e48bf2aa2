package introspect

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestSetLogLevel(t *testing.T) {
	sources := fakeSources(t)
	var log logged
	h := newHandler(sources, &log, loopback)
	for _, tc := range []struct {
		body   string
		status int
		answer string
		spec   string
	}{
		{"", 200, `"level":"INFO"`, "info,bpf=debug"},
		{"debug", 200, `{"status":"Ok"}`, "debug"},
		{" WARNING\n", 200, `{"status":"Ok"}`, "warn"},
		{"fatal", 200, `{"status":"Ok"}`, "error"},
		{"info,exporter.push=trace", 200, `{"status":"Ok"}`, "info,exporter.push=trace"},
		{"foo", 400, `"error":"Invalid log level \"foo\"`, "info,exporter.push=trace"},
		{strings.Repeat("x", maxLevel+1), 413, `"error":"the body is larger than 4096 bytes"`, "info,exporter.push=trace"},
	} {
		w := ask(h, "POST", "/loglevel", tc.body)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.answer) {
			t.Errorf("POST %.20q: %d %s, want %d %s", tc.body, w.Code, w.Body, tc.status, tc.answer)
		}
		if got := sources.Levels.Spec().String(); got != tc.spec {
			t.Errorf("POST %.20q: level is %s, want %s", tc.body, got, tc.spec)
		}
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 6 { // all but the one that only read
		t.Errorf("%d lines on record, want 6:\n%s", len(lines), log.String())
	}
	if want := `change="log level from info,bpf=debug to debug" ok=true`; !strings.Contains(lines[0], want) || !strings.Contains(lines[0], "target="+auditTarget) {
		t.Errorf("record %s, want %s", lines[0], want)
	}
	if !strings.Contains(lines[5], "ok=false") {
		t.Errorf("record %s, want ok=false", lines[5])
	}
}

func TestPutRuntimeConfig(t *testing.T) {
	sources := fakeSources(t)
	runtime := sources.Runtime.(*fakeRuntime)
	var log logged
	h := newHandler(sources, &log, loopback)

	w := ask(h, "PUT", "/state/runtime-config", "networking: {externalIps: {enabled: DISABLED}}")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"generation":3`) {
		t.Errorf("PUT: %d %s", w.Code, w.Body)
	}
	if runtime.text != "networking: {externalIps: {enabled: DISABLED}}" || runtime.from != "PUT by 192.0.2.1:1234" {
		t.Errorf("text %q from %q", runtime.text, runtime.from)
	}
	w = ask(h, "PUT", "/state/runtime-config", "bad")
	compareGolden(t, filepath.Join("testdata", "put_refused.json"), exchange(t, "PUT /state/runtime-config", w.Code, w.Body.Bytes()))
	for body, want := range map[string]int{" \n": 400, strings.Repeat(" ", maxConfig+1): 413} {
		if w := ask(h, "PUT", "/state/runtime-config", body); w.Code != want {
			t.Errorf("body of %d: status %d, want %d", len(body), w.Code, want)
		}
	}
	if n := strings.Count(log.String(), "introspection write"); n != 4 {
		t.Errorf("%d records, want 4:\n%s", n, log.String())
	}
}

// TestWritingSwitchedOff: nothing changes, and the attempt is on record.
func TestWritingSwitchedOff(t *testing.T) {
	sources := fakeSources(t)
	var log logged
	h := newHandler(sources, &log, door{listener: fakeListener{}})
	for _, tc := range [][2]string{{"POST", "/loglevel"}, {"PUT", "/state/runtime-config"}} {
		w := ask(h, tc[0], tc[1], "debug")
		if w.Code != 403 {
			t.Errorf("%s %s: status %d, want 403", tc[0], tc[1], w.Code)
		}
		wantError(t, tc[1], w.Body.Bytes())
	}
	if sources.Levels.Spec().String() != "info,bpf=debug" || sources.Runtime.(*fakeRuntime).text != "" {
		t.Error("something was written")
	}
	if n := strings.Count(log.String(), "ok=false"); n != 2 {
		t.Errorf("%d records, want 2:\n%s", n, log.String())
	}
	if w := ask(h, "GET", "/loglevel", ""); w.Code != 200 {
		t.Errorf("reading: status %d", w.Code)
	}
}

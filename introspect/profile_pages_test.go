package introspect

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/profile"
)

// TestPages takes a profile as a browser does and looks at it in every way.
func TestPages(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", os.DevNull)
	ballast := make([]byte, 16<<20) // so large that it is in every profile of the heap
	defer runtime.KeepAlive(ballast)
	sources := fakeSources(t)
	sources.Pages = profile.NewPages()
	var log logged
	h := newHandler(sources, &log, loopback)
	if w := ask(h, "GET", "/profile/ui/", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "None has been taken yet") {
		t.Errorf("empty list: %d %s", w.Code, w.Body)
	}
	w := ask(h, "POST", "/profile/ui/", "kind=heap&seconds=1&container=&pid=")
	if w.Code != 303 || w.Header().Get("Location") != "1/flamegraph" {
		t.Errorf("take: %d, location %q: %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	if !strings.Contains(log.String(), `change="take profile heap" ok=true`) {
		t.Errorf("not on record:\n%s", log.String())
	}
	ask(h, "GET", "/profile/heap", "") // is kept, too
	list := ask(h, "GET", "/profile/ui/", "").Body.String()
	for _, want := range []string{`href="1/flamegraph"`, `href="2/top"`, "<option>heap</option>"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list has no %s:\n%s", want, list)
		}
	}
	for _, target := range []string{"/profile/ui/1/flamegraph", "/profile/ui/2/top?si=alloc_space&n=10", "/profile/ui/1/peek?f=TestPages"} {
		w := ask(h, "GET", target, "")
		if w.Code != 200 || !strings.Contains(w.Body.String(), "TestPages") || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %d, policy %q, %.200s", target, w.Code, w.Header().Get("Content-Security-Policy"), w.Body)
		}
	}
}

// TestPageErrors are JSON like all others, also where pprof is not content.
func TestPageErrors(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", os.DevNull)
	sources := fakeSources(t)
	sources.Pages = profile.NewPages()
	h := newHandler(sources, nil, loopback)
	ask(h, "GET", "/profile/heap", "")
	for _, tc := range []struct {
		method, target, body string
		status               int
	}{
		{"GET", "/profile/ui/1/top?f=(", "", 400}, {"GET", "/profile/ui/1/graph", "", 404}, {"GET", "/profile/ui/1/source?f=main", "", 404},
		{"POST", "/profile/ui/1/saveconfig?config=x", "", 405}, {"GET", "/profile/ui/1/saveconfig?config=x", "", 404},
		{"GET", "/profile/ui/2/top", "", 404}, {"GET", "/profile/ui/x/top", "", 404}, {"GET", "/profile/ui/1", "", 404}, {"GET", "/profile/ui", "", 307},
		{"POST", "/profile/ui/", "kind=disk", 400}, {"POST", "/profile/ui/", "kind=cpu&seconds=0", 400}, {"POST", "/profile/ui/", "%zz", 400},
		{"POST", "/profile/ui/", "kind=node", 503}, {"POST", "/profile/ui/", strings.Repeat("x", maxForm+1), 413}, {"GET", "/profile/ui/?x=1", "", 400},
	} {
		w := ask(h, tc.method, tc.target, tc.body)
		if w.Code != tc.status {
			t.Errorf("%s %s: status %d, want %d: %s", tc.method, tc.target, w.Code, tc.status, w.Body)
		} else if tc.status != 307 {
			wantError(t, tc.target, w.Body.Bytes())
		}
	}
}

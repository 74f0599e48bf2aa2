package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// browse opens a page in Chromium and returns what has become of it once its scripts
// have run.
func browse(t *testing.T, page string) string {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		testenv.Skip(t, "needs chromium: "+err.Error())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "sonde-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) // it may still be writing there: leave what does not go
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+dir,
		"--window-size=1200,900", "--virtual-time-budget=3000", "--dump-dom", page)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium %s: %v\n%s", page, err, complaints.String())
	}
	if strings.Contains(complaints.String(), "Content Security Policy") {
		t.Errorf("%s breaks its own policy:\n%s", page, complaints.String())
	}
	return string(out)
}

// introspection returns the URL of the agent's introspection listener.
func (a *agent) introspection(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(a.dir, "sonde.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Addresses map[string][]string }
	if err := json.Unmarshal(data, &d); err != nil || len(d.Addresses["introspect"]) == 0 {
		t.Fatalf("no introspection address: %v: %s", err, data)
	}
	return d.Addresses["introspect"][0]
}

// A browser draws the flame graph of a profile that was taken with the form.
func TestProfilesInABrowser(t *testing.T) {
	a := startAgent(t, "--introspect.listen-address=127.0.0.1:0")
	background(t, exec.Command(compiled(t, "spin-c.c", spinC, "gcc", "-O2", "-fno-omit-frame-pointer")))
	base := a.introspection(t) + "/profile/ui/"
	form := url.Values{"kind": {"node"}, "seconds": {"1"}}
	res, err := http.PostForm(base, form) // follows to the flame graph
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK || !strings.HasSuffix(res.Request.URL.Path, "/1/flamegraph") {
		t.Fatalf("%s at %s", res.Status, res.Request.URL)
	}
	for view, want := range map[string]string{
		"flamegraph": `class="boxtext">spin_in_c<`, // drawn by the page's script
		"top":        `spin_in_c</td>`,
	} {
		if dom := browse(t, base+"1/"+view+"?f=spin_in_c"); !strings.Contains(dom, want) {
			t.Errorf("%s has no %s:\n%.20000s", view, want, dom)
		}
	}
}

// The landing page draws the rates of a real sensor, all of them.
func TestLandingPageDraws(t *testing.T) {
	a := startAgent(t)
	dom := browse(t, "http://"+a.address+"/")
	if n := strings.Count(dom, `<polyline points="`); n != 4 {
		t.Errorf("%d plots, want 4:\n%.20000s", n, dom)
	}
}

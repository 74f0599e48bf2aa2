package e2e

import (
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Events reach a receiver over TLS that only its own authority vouches for. When it goes
// away this is said with class and remedy, and when it is back so are the events.
func TestHTTPSSink(t *testing.T) {
	var (
		mu    sync.Mutex
		taken strings.Builder
		away  bool
	)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if away || r.Header.Get("Authorization") != "Bearer s3cret" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if lines, err := gzip.NewReader(r.Body); err == nil {
			io.Copy(&taken, lines)
		}
	}))
	defer server.Close()
	goAway := func(now bool) { mu.Lock(); away = now; mu.Unlock() }
	has := func(text string) error {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(taken.String(), text) {
			return fmt.Errorf("%q has not arrived", text)
		}
		return nil
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	authority := write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	a := startAgent(t, "--config.file="+write("sonde.yaml", fmt.Sprintf(
		"sessions: [{name: web, points: [{name: process/exec}], sinks: [{name: https, config: {url: %q, ca_file: %q, bearer_token_file: %q}}]}]",
		server.URL, authority, write("token", "s3cret\n"))))
	perform := func(word string) {
		if err := act(t, "nothing", word).Run(); err != nil {
			t.Fatal(err)
		}
	}
	perform("first-word")
	waitUntil(t, func() error { return has("first-word") })

	goAway(true)
	perform("second-word")
	waitUntil(t, func() error {
		_, out, _ := a.verb(t, "trace", "list")
		if up := sum(a.families(t), "sonde_sink_up", "session=web"); up != 0 || !strings.Contains(out, "web/https: server: ") {
			return fmt.Errorf("up %v, and the list is\n%s", up, out)
		}
		return nil
	})
	goAway(false)
	waitUntil(t, func() error { return has("second-word") })
	waitUntil(t, func() error {
		if f := a.families(t); sum(f, "sonde_sink_up", "session=web") != 1 || sum(f, "sonde_events_dropped_total", "stage=session")+sum(f, "sonde_events_dropped_total", "stage=sink") != 0 {
			return fmt.Errorf("the sink is not well again:\n%s", a.log)
		}
		return nil
	})
	if strings.Contains(a.log.String(), "s3cret") {
		t.Error("the log shows the token")
	}
}

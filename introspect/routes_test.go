package introspect

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files and the generated page")

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; review and run go test -update (-want +got):\n%s", path, diff)
	}
}

// TestShapes holds every answer to the reviewed files in testdata.
func TestShapes(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	for file, target := range map[string]string{
		"list":                  "/",
		"ready":                 "/ready",
		"connection":            "/state/network/connection",
		"connection_raw":        "/state/network/connection?normalize=false",
		"connection_detail":     "/state/network/connection?detail=true&container=" + webID[:12],
		"connection_page":       "/state/network/connection?limit=1&offset=1",
		"connection_idle":       "/state/network/connection?container=" + idleID,
		"connection_host":       "/state/network/connection?container=host",
		"endpoint":              "/state/network/endpoint",
		"endpoint_raw":          "/state/network/endpoint?normalize=false",
		"endpoint_detail":       "/state/network/endpoint?detail=true&closed=true",
		"containers":            "/state/containers",
		"containers_page":       "/state/containers?offset=1&limit=1",
		"containers_none":       "/state/containers?offset=9",
		"container":             "/state/containers/" + webID[:12],
		"container_named":       "/state/containers/test/c-abc",
		"container_escaped":     "/state/containers/test%2Fc-abc",
		"processes":             "/state/processes",
		"processes_idle":        "/state/processes?container=" + idleID[:12],
		"process":               "/state/processes/101",
		"runtime_config":        "/state/runtime-config",
		"pipeline":              "/state/pipeline",
		"sensor":                "/state/sensor",
		"loglevel":              "/loglevel",
		"error_route":           "/nothing",
		"error_container":       "/state/containers/dddddddddddd",
		"error_container_query": "/state/network/connection?container=dddddddddddd",
		"error_container_id":    "/state/containers/a%20b",
		"error_process":         "/state/processes/9",
		"error_pid":             "/state/processes/x",
		"error_parameter":       "/state/network/connection?limit=0",
	} {
		t.Run(file, func(t *testing.T) {
			w := ask(h, "GET", target, "")
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %q", got)
			}
			compareGolden(t, filepath.Join("testdata", file+".json"), exchange(t, "GET "+target, w.Code, w.Body.Bytes()))
		})
	}
}

// exchange writes a request and its answer, indented. An answer that is no JSON
// fails the test.
func exchange(t *testing.T, request string, status int, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n# %d\n", request, status)
	if err := json.Indent(&b, body, "", "  "); err != nil {
		t.Fatalf("%s: %v: %s", request, err, body)
	}
	return b.Bytes()
}

// TestLiteralShapes holds the rows that existing scripts read to their exact text.
func TestLiteralShapes(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	for target, want := range map[string]string{
		"/state/network/connection?limit=1":                          `{"aaaaaaaaaaaa":[{"active":true,"l4proto":"TCP","network":"office","port":443,"to":"203.0.113.0/24"}]}`,
		"/state/network/connection?container=" + webID + "&offset=2": `{"aaaaaaaaaaaa":[{"active":true,"from":"10.0.0.2","l4proto":"TCP","port":80}]}`,
		"/state/network/connection?container=host":                   `{"host":[{"active":true,"l4proto":"TCP","port":53,"to":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}]}`,
		"/state/network/endpoint?limit=1":                            `{"aaaaaaaaaaaa":[{"active":true,"endpoint":{"address":"0.0.0.0","port":80},"l4proto":"TCP"}]}`,
		"/ready":                                                     `{"collector":{"drops":{"total":3,"ringbuffer":2,"decode":1,"session":0,"sink":0},"events":91234,"node":"n1"},"status":"ok"}`,
	} {
		if got := strings.TrimSpace(ask(h, "GET", target, "").Body.String()); got != want {
			t.Errorf("%s\n got %s\nwant %s", target, got, want)
		}
	}
}

// TestContainerIDsAreDecodedOnce: an id may be written with any of its characters
// escaped, whole or in its parts, and nothing else leads to it.
func TestContainerIDsAreDecodedOnce(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	for path, want := range map[string]int{
		"test/c-abc": 200, "test%2Fc-abc": 200, "test%2fc%2Dabc": 200, "%74est/%63-abc": 200,
		"test%252Fc-abc": 400, "test%00": 400, "%2E%2E%2Fready": 400, "a%2F%2E%2E%2Fb": 404, "%ff": 400, "%E6%97%A5": 400, "%20": 400,
		webID[:12]: 200, webID: 200, webID[:11]: 404, strings.Repeat("a", 257): 400,
	} {
		w := ask(h, "GET", "/state/containers/"+path, "")
		if w.Code != want {
			t.Errorf("%s: status %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
	for query, want := range map[string]int{"test/c-abc": 200, "test%2Fc-abc": 200, "test%252Fc-abc": 400} {
		if w := ask(h, "GET", "/state/network/connection?container="+query, ""); w.Code != want {
			t.Errorf("container=%s: status %d, want %d: %s", query, w.Code, want, w.Body)
		}
	}
}

func TestTotalCount(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	for target, want := range map[string]string{
		"/state/network/connection?limit=1": "4", "/state/network/endpoint": "2", "/state/containers?offset=2": "3", "/state/processes?limit=1": "2",
	} {
		if got := ask(h, "GET", target, "").Header().Get("X-Total-Count"); got != want {
			t.Errorf("%s: X-Total-Count %q, want %s", target, got, want)
		}
	}
}

// TestEveryErrorIsJSON: whatever goes wrong, wherever.
func TestEveryErrorIsJSON(t *testing.T) {
	h := newHandler(Sources{}, nil, loopback) // nothing is kept track of
	for _, r := range routes() {
		path := strings.NewReplacer("{id...}", "abc", "{pid}", "1", "{name}", "heap", "{view}", "top").Replace(strings.TrimSuffix(r.path, "{$}"))
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"} {
			w := ask(h, method, path, "x")
			_, has := r.verbs[method]
			_, get := r.verbs["GET"]
			if has || method == "HEAD" && get {
				if w.Code != 503 && path != "/" {
					t.Errorf("%s %s without a source: status %d", method, path, w.Code)
				}
			} else if w.Code != 405 || w.Header().Get("Allow") != r.allow() {
				t.Errorf("%s %s: status %d, Allow %q, want 405 and %q", method, path, w.Code, w.Header().Get("Allow"), r.allow())
			}
			if path != "/" || w.Code != 200 {
				wantError(t, method+" "+path, w.Body.Bytes())
			}
		}
	}
	for _, path := range []string{"/nothing", "/state", "/state/", "/state/network", "/ready/x", "/metrics", "/state/processes/1/2", "/state/network/connection/"} {
		w := ask(h, "GET", path, "")
		if w.Code != 404 {
			t.Errorf("%s: status %d, want 404", path, w.Code)
		}
		wantError(t, path, w.Body.Bytes())
	}
}

// wantError wants {"error":"something"}.
func wantError(t *testing.T, what string, body []byte) string {
	t.Helper()
	var e struct{ Error string }
	if err := json.Unmarshal(body, &e); err != nil || e.Error == "" {
		t.Errorf("%s: %q is not a JSON error", what, body)
	}
	return e.Error
}

// TestBadParameters: the answer names what is wrong.
func TestBadParameters(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	for query, want := range map[string]string{
		"normalize=1":              `parameter normalize is "1"`,
		"normalize=":               `parameter normalize is ""`,
		"detail=TRUE":              `parameter detail is "TRUE"`,
		"closed=x":                 `parameter closed is "x"`,
		"limit=-1":                 `parameter limit is "-1"`,
		"limit=1000001":            `parameter limit is "1000001"`,
		"limit=1e3":                `parameter limit is "1e3"`,
		"offset=-1":                `parameter offset is "-1"`,
		"offset=9999999999999999":  `parameter offset is`,
		"container=":               `parameter container is ""`,
		"container=../etc":         `parameter container is "../etc"`,
		"container=a%00b":          `parameter container is "a\x00b"`,
		"container=%ff":            `parameter container is "\xff"`,
		"continer=x":               `parameter "continer" is not known here; known: container, normalize`,
		"limit=1&limit=2":          "parameter limit is given 2 times",
		"limit=%zz":                "the query string cannot be read",
		"a;b":                      "the query string cannot be read",
		strings.Repeat("x", 10000): "is not known here",
	} {
		w := ask(h, "GET", "/state/network/connection?"+query, "")
		if w.Code != 400 {
			t.Errorf("%s: status %d, want 400", query, w.Code)
		}
		if text := wantError(t, query, w.Body.Bytes()); !strings.Contains(text, want) || len(text) > 400 {
			t.Errorf("%s: %q, want %q in it, and not too long", query, text, want)
		}
	}
	for _, path := range []string{"/ready", "/state/containers/" + webID, "/loglevel", "/", "/state/pipeline"} {
		if w := ask(h, "GET", path+"?limit=1", ""); w.Code != 400 {
			t.Errorf("%s?limit=1: status %d, want 400", path, w.Code)
		}
	}
}

func TestNotReady(t *testing.T) {
	sources := fakeSources(t)
	sources.Ready = func() Readiness {
		return Readiness{Node: "n1", Reasons: []string{"probe tcp is not attached", "no canary has arrived"}}
	}
	w := ask(newHandler(sources, nil, loopback), "GET", "/ready", "")
	compareGolden(t, filepath.Join("testdata", "not_ready.json"), exchange(t, "GET /ready", w.Code, w.Body.Bytes()))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", w.Code)
	}
	wantError(t, "/ready", w.Body.Bytes())
}

// TestRoutesPage writes docs/routes.md from the table, and fails when it is stale.
func TestRoutesPage(t *testing.T) {
	compareGolden(t, "../docs/routes.md", []byte(routesPage()))
}

func routesPage() string {
	var b strings.Builder
	b.WriteString(`<!-- Generated from the table of routes in introspect/route.go: ` + "`make docs`" + ` writes it, a test fails when it is stale. -->

# Routes of the introspection listener

What the sensor knows right now, as JSON. By default it listens on ` + "`127.0.0.1:8080`" + ` and on the Unix socket
` + "`/run/sonde/introspect.sock`" + `, which root alone may use. An address that other nodes can reach is refused at the start unless the web
configuration file asks for credentials.

| route | method | answer | parameters |
|---|---|---|---|
`)
	for _, r := range routes() {
		for _, method := range slices.Sorted(maps.Keys(r.verbs)) {
			v := r.verbs[method]
			params := make([]string, len(v.params))
			for i, p := range v.params {
				params[i] = "`" + p + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.shownPath(), method, v.about, strings.Join(params, " "))
		}
	}
	b.WriteString("\n## Parameters\n\n| parameter | values | effect |\n|---|---|---|\n")
	for _, p := range parameters {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.name, p.values, p.about)
	}
	fmt.Fprintf(&b, `
## Rules for all of them

- Every error is `+"`{\"error\":\"…\"}`"+` with a fitting status: 400 for a parameter or body that cannot be used (it is named), 403 where writing is
  switched off, 404 for what is not known, 405 with `+"`Allow`"+` for a method that a route does not have, 409 where something else has to be
  switched or to end first, 413 for a body that is too large, 503 where the sensor does not keep track of something or is busy. A configuration that is refused has all its faults in `+"`faults`"+`.
- A request takes %v at most, and one that records the seconds it asks for in addition. An answer that breaks off was not finished: it is
  never valid JSON then.
- Large answers are written as they are made, and a few of them at a time. Nothing stops the events meanwhile: each entry is shown as it was
  at one instant, all of them at nearly the same one.
- The write verbs work where only this node can ask, or as `+"`--introspect.enable-write`"+` says. Each leaves a line in the log, target
  `+"`%s`"+`: who, what, and how it ended.
- A browser is not let in by accident: pages from elsewhere cannot write, and on loopback the host must be `+"`localhost`"+` or an address.
- Containers are named by the first twelve characters of their id; `+"`host`"+` is everything outside of containers.

## What is shown of a connection

The side that accepted it shows `+"`from`"+`, the peer's address, and its own port; the side that connected shows `+"`to`"+`, the peer's address and port.
Connections that look the same are one entry. The address of a peer is shown as follows, the first rule that fits:

1. Loopback peers and those in `+"`ignoredNetworks`"+` are not shown.
2. Private addresses, and those in `+"`nonAggregatedNetworks`"+`, are shown as they are.
3. An address in one of `+"`knownNetworks`"+` is shown as that network, the smallest one that contains it. `+"`network`"+` is its name.
4. Any other address is public: it is shown where `+"`externalIps`"+` says so for the direction, else as `+"`255.255.255.255`"+` or all ones.

`+"`normalize=false`"+` shows each connection with its full address and leaves nothing out. IPv4 addresses mapped into IPv6 are IPv4. `+"`bytes`"+` are
there once they are known: when a connection ends, or when the sensor has last compared its picture with the kernel.
`, requestTimeout, auditTarget)
	return b.String()
}

// TestParametersAreDocumented: the table has every parameter that a route takes, and
// no other.
func TestParametersAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, p := range parameters {
		documented[p.name] = false
	}
	for _, r := range routes() {
		for _, v := range r.verbs {
			for _, p := range v.params {
				if _, ok := documented[p]; !ok {
					t.Errorf("%s takes %s, which is not in the table", r.path, p)
				}
				documented[p] = true
			}
		}
	}
	for p, used := range documented {
		if !used {
			t.Errorf("no route takes %s", p)
		}
	}
}

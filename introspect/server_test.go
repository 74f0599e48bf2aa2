package introspect

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// serve runs a server until the test ends and wants it to stop without an error.
func serve(t *testing.T, s *Server, sources Sources) {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, sources) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// overUnix is a client of a Unix socket.
func overUnix(t *testing.T, path string) *http.Client {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func body(t *testing.T, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDefaultAddressTaken: the socket serves, the log says so.
func TestDefaultAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "introspect.sock")
	var log logged
	s := New(Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)), ListenAddresses: []string{unixsocket.Scheme + socket}, DefaultAddress: taken.Addr().String(),
	})
	serve(t, s, fakeSources(t))
	if n := len(s.Addresses()); n != 1 {
		t.Errorf("%d listeners, want 1", n)
	}
	resp, err := overUnix(t, socket).Get("http://sonde/ready")
	if text := body(t, resp, err); !strings.Contains(text, `"status":"ok"`) {
		t.Error(text)
	}
	if want := "default introspection address is taken"; !strings.Contains(log.String(), want) || !strings.Contains(log.String(), taken.Addr().String()) {
		t.Errorf("log %s, want %q and the address", log.String(), want)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != unixsocket.Mode {
		t.Errorf("socket %v, %v, want mode %o", info.Mode(), err, unixsocket.Mode)
	}
	alone := New(Options{DefaultAddress: taken.Addr().String()}) // nothing else to go on with
	if err := alone.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("alone: %v, want EADDRINUSE", err)
	}
}

// TestAddressTaken: one that was asked for is an error, and nothing stays open.
func TestAddressTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "s")
	s := New(Options{ListenAddresses: []string{unixsocket.Scheme + socket, taken.Addr().String()}})
	if err := s.Listen(); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %v, want EADDRINUSE and the address", err)
	}
	if _, err := net.Dial("unix", socket); err == nil {
		t.Error("the socket was left open")
	}
	if err := s.Serve(t.Context(), Sources{}); err == nil {
		t.Error("serving without a listener is no error")
	}
}

func TestUnixSocketIsTakenOverFromTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	s := New(Options{ListenAddresses: []string{unixsocket.Scheme + path}})
	serve(t, s, Sources{})
	second := New(Options{ListenAddresses: []string{unixsocket.Scheme + path}})
	if err := second.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener on a live socket: %v, want EADDRINUSE", err)
	}
}

// secretHash is "secret" under bcrypt, with the least cost.
const secretHash = "$2a$04$TnFtISP/4Z65gs3mjg9Asu2LWbu5MIzfHdepQGWF8keDKcHt3yRl2"

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpenToAll: other nodes are not let in without credentials.
func TestOpenToAll(t *testing.T) {
	headers := writeFile(t, "headers.yml", "http_server_config:\n  headers:\n    X-Frame-Options: deny\n")
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		for _, config := range []string{"", headers} {
			s := New(Options{ListenAddresses: []string{address}, WebConfigFile: config})
			if err := s.Listen(); !errors.Is(err, ErrOpenToAll) || !strings.Contains(err.Error(), address) {
				t.Errorf("%s with web config %q: %v, want it refused", address, config, err)
			}
		}
	}
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "127.8.9.10:0"} {
		s := New(Options{ListenAddresses: []string{address}})
		if err := errors.Join(s.Listen(), s.Close()); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := New(Options{ListenAddresses: []string{"127.0.0.1:0"}, WebConfigFile: "/nonexistent.yml"}).Listen(); err == nil {
		t.Error("a web config file that does not exist was accepted")
	}
}

// TestCredentials: with them other nodes may ask, but not write unless it is
// switched on.
func TestCredentials(t *testing.T) {
	config := writeFile(t, "web.yml", "basic_auth_users:\n  alice: "+secretHash+"\n")
	yes := true
	for _, enable := range []*bool{nil, &yes} {
		var log logged
		s := New(Options{
			ListenAddresses: []string{"0.0.0.0:0"}, WebConfigFile: config, EnableWrite: enable,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		serve(t, s, fakeSources(t))
		_, port, _ := net.SplitHostPort(s.Addresses()[0].String())
		send := func(method, path, password string) int {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+port+path, strings.NewReader("debug"))
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("alice", password)
			resp, err := http.DefaultClient.Do(r)
			body(t, resp, err)
			return resp.StatusCode
		}
		if got := send("GET", "/ready", "guess"); got != 401 {
			t.Errorf("wrong password: status %d, want 401", got)
		}
		if got := send("GET", "/ready", "secret"); got != 200 {
			t.Errorf("right password: status %d, want 200", got)
		}
		want := 403
		if enable != nil {
			want = 200
		}
		if got := send("POST", "/loglevel", "secret"); got != want {
			t.Errorf("writing: status %d, want %d", got, want)
		}
		if !strings.Contains(log.String(), `user="\"alice\""`) {
			t.Errorf("the record does not name the user:\n%s", log.String())
		}
	}
}

// TestRecordNamesThePeer of a Unix socket.
func TestRecordNamesThePeer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	var log logged
	serve(t, New(Options{ListenAddresses: []string{unixsocket.Scheme + socket}, Logger: slog.New(slog.NewTextHandler(&log, nil))}), fakeSources(t))
	resp, err := overUnix(t, socket).Post("http://sonde/loglevel", "text/plain", strings.NewReader("debug"))
	if body(t, resp, err); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if want := `client="uid `; !strings.Contains(log.String(), want) {
		t.Errorf("log %s, want %s", log.String(), want)
	}
}

// TestBrowsersAreKeptOut: a page from elsewhere does not write, and a name that was
// pointed here does not read.
func TestBrowsersAreKeptOut(t *testing.T) {
	h := newHandler(fakeSources(t), nil, loopback)
	do := func(method, host string, headers ...string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, "/loglevel", strings.NewReader("debug"))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := newRecorder()
		h.ServeHTTP(w, r)
		if w.status >= 400 {
			wantError(t, host, w.body.Bytes())
		}
		return w.status
	}
	for host, want := range map[string]int{
		"localhost:8080": 200, "127.0.0.1:8080": 200, "[::1]:8080": 200, "10.0.0.1": 200, "": 200,
		"evil.example:8080": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example:80": 403,
	} {
		if got := do("GET", host); got != want {
			t.Errorf("host %q: status %d, want %d", host, got, want)
		}
	}
	if got := do("POST", "localhost:8080", "Sec-Fetch-Site", "cross-site"); got != 403 {
		t.Errorf("page from elsewhere: status %d, want 403", got)
	}
	if got := do("POST", "localhost:8080", "Origin", "http://evil.example"); got != 403 {
		t.Errorf("page from elsewhere, old browser: status %d, want 403", got)
	}
	if got := do("POST", "localhost:8080"); got != 200 {
		t.Errorf("no browser: status %d, want 200", got)
	}
}

// recorder is a ResponseWriter that can be made to fail.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	left   int // bytes that can still be written; -1 is no limit
}

func newRecorder() *recorder { return &recorder{header: http.Header{}, left: -1} }

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(200)
	if r.left >= 0 {
		if r.left -= len(b); r.left < 0 {
			return 0, io.ErrClosedPipe
		}
	}
	return r.body.Write(b)
}

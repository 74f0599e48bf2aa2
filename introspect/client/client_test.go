package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/outbound"
)

// sensor answers as an introspection listener does.
func sensor() http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, status int, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, text, r.Method)
		})
	}
	answer("/echo", 200, `{"method":%q}`)
	answer("/busy", 503, `{"error":"%s: busy"}`)
	answer("/plain", 502, "%s: who?\n")
	answer("/broken", 200, `{"method":%q`)
	mux.Handle("/away", http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	mux.HandleFunc("/lines", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintln(w, i, strings.Repeat("x", 100_000))
			http.NewResponseController(w).Flush()
			time.Sleep(150 * time.Millisecond) // three of them are longer than the time for an answer
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return mux
}

func TestAddresses(t *testing.T) {
	over := httptest.NewServer(sensor())
	defer over.Close()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	unix := httptest.NewUnstartedServer(sensor())
	unix.Listener = l
	unix.Start()
	defer unix.Close()
	for _, address := range []string{over.Listener.Addr().String(), over.URL, over.URL + "/", "unix://" + l.Addr().String()} {
		c, err := New(Options{Address: address})
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		var said struct{ Method string }
		if err := c.Get(t.Context(), "/echo", &said); err != nil || said.Method != "GET" {
			t.Errorf("%s: %+v, %v", address, said, err)
		}
	}
	for _, address := range []string{"", "unix://", "unix://a", "ftp://a", "http://", "http://a/b", "http://a?b", "http://me:pw@a", "a b", "://"} {
		if _, err := New(Options{Address: address}); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v, want a refusal without secrets", address, err)
		}
	}
}

func TestErrors(t *testing.T) {
	server := httptest.NewServer(sensor())
	defer server.Close()
	c, err := New(Options{Address: server.URL, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/busy":    "GET /busy: 503 Service Unavailable: GET: busy",
		"/plain":   "GET /plain: 502 Bad Gateway: GET: who?",
		"/away":    "GET /away: 302 Found: <a href",
		"/nothing": "GET /nothing: 404 Not Found: 404 page not found",
		"/broken":  "GET /broken: decode answer: unexpected EOF",
		"/slow":    "GET /slow: context deadline exceeded",
	} {
		var said struct{ Method string }
		if err := c.Get(t.Context(), path, &said); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	var refused *Error
	if err := c.Get(t.Context(), "/busy", new(any)); !errors.As(err, &refused) || refused.Status != 503 {
		t.Errorf("%v is no refusal", err)
	}
	var said struct{ Error string }
	if err := c.Ask(t.Context(), "POST", "/busy", "x", &said, 503); err != nil || said.Error != "POST: busy" {
		t.Errorf("503 as an answer: %+v, %v", said, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ended, "/echo", new(any)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	server.Close()
	if err := c.Get(t.Context(), "/echo", new(any)); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v, want that nobody is there", err)
	}
}

// TestCredentials: authorities, basic authentication and client certificates come
// from files.
func TestCredentials(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, `{"user":%q,"password":%q,"certificates":%d}`, user, password, len(r.TLS.PeerCertificates))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := httptest.NewUnstartedServer(nil) // has a key of its own
	own.StartTLS()
	defer own.Close()
	ca := file("ca", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	cert, key := keyPair(t, own.TLS.Certificates[0], file)
	password := file("password", []byte("secret\n"))

	c, err := New(Options{
		Address: server.URL, Trust: outbound.Trust{CAFile: ca, CertFile: cert, KeyFile: key},
		Credentials: outbound.Credentials{Username: "me", PasswordFile: password},
	})
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		User, Password string
		Certificates   int
	}
	if err := c.Get(t.Context(), "/", &said); err != nil || said.User != "me" || said.Password != "secret" || said.Certificates != 1 {
		t.Errorf("%+v, %v", said, err)
	}
	stranger, err := New(Options{Address: server.URL, Trust: outbound.Trust{CertFile: cert, KeyFile: key}})
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Get(t.Context(), "/", &said); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v, want that the certificate is not trusted", err)
	}
	missing := filepath.Join(dir, "missing")
	for _, o := range []Options{
		{Trust: outbound.Trust{CAFile: missing}}, {Trust: outbound.Trust{CAFile: password}}, {Trust: outbound.Trust{CertFile: cert}},
		{Trust: outbound.Trust{CertFile: missing, KeyFile: key}}, {Credentials: outbound.Credentials{Username: "me", PasswordFile: missing}},
	} {
		o.Address = "localhost:1"
		if _, err := New(o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want a refusal without secrets", o, err)
		}
	}
}

// keyPair writes a certificate and its key to files.
func keyPair(t *testing.T, pair tls.Certificate, file func(string, []byte) string) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return file("cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})),
		file("key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestFollow(t *testing.T) {
	server := httptest.NewServer(sensor())
	defer server.Close()
	c, err := New(Options{Address: server.URL, Timeout: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	take := func(line []byte) error {
		lines = append(lines, string(line[:1]))
		return nil
	}
	if err := c.Follow(t.Context(), "/lines", take); err != nil || strings.Join(lines, "") != "012" {
		t.Errorf("lines %q, %v", lines, err)
	}
	enough := errors.New("enough")
	if err := c.Follow(t.Context(), "/lines", func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v, want what take returns", err)
	}
	if err := c.Follow(t.Context(), "/busy", take); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v, want the refusal", err)
	}
	var slow net.Error
	if err := c.Follow(t.Context(), "/slow", take); !errors.As(err, &slow) || !slow.Timeout() {
		t.Errorf("%v, want that the time is over", err)
	}
}

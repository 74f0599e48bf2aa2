package outbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// post sends an empty request as a Client with those options.
func post(t *testing.T, o Options, patience time.Duration) error {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Target().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

// proxy is one that asks for a password, and answers itself.
func proxy(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic bWU6czNjcmV0" { // me:s3cret
			w.WriteHeader(http.StatusProxyAuthRequired)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// Every way in which sending fails has a reason of its own.
func TestReasons(t *testing.T) {
	status := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.WriteHeader(code)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	through := proxy(t)
	for _, c := range []struct {
		name string
		o    Options
		want Reason
	}{
		{"no file", Options{URL: status(200), Credentials: Credentials{BearerTokenFile: "/nonexistent"}}, BadCredentials},
		{"no name", Options{URL: "http://no-such-host.invalid/"}, DNS},
		{"nobody", Options{URL: closed.URL}, Connect},
		{"strange authority", Options{URL: secure.URL}, TLS},
		{"silence", Options{URL: "http://" + silent.Addr().String()}, Timeout},
		{"elsewhere", Options{URL: status(302)}, Redirect},
		{"forbidden", Options{URL: status(403)}, Unauthorized},
		{"refused", Options{URL: status(404)}, Rejected},
		{"busy", Options{URL: status(429)}, Server},
		{"broken", Options{URL: status(502)}, Server},
		{"no proxy", Options{URL: "http://example.com/", Proxy: Proxy{ProxyURL: closed.URL}}, ProxyRefused},
		{"strange to the proxy", Options{URL: "http://example.com/", Proxy: Proxy{ProxyURL: through.URL}}, ProxyRefused},
		{"strange to the proxy of a tunnel", Options{URL: "https://example.com/", Proxy: Proxy{ProxyURL: through.URL}}, ProxyRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			patience := 20 * time.Second
			if c.want == Timeout {
				patience = 200 * time.Millisecond
			}
			err := post(t, c.o, patience)
			var f *Failure
			if !errors.As(err, &f) || f.Reason != c.want {
				t.Errorf("%v is %v, want %v", err, f, c.want)
			}
		})
	}
}

// A proxy gets its own credentials, and the receiver those for it.
func TestProxyPassword(t *testing.T) {
	through := proxy(t)
	o := Options{URL: "http://example.com/", Proxy: Proxy{ProxyURL: through.URL, ProxyUsername: "me", ProxyPasswordFile: file(t, "s3cret\n")}}
	if err := post(t, o, 20*time.Second); err != nil {
		t.Error(err)
	}
}

// What cannot work is refused before anything is sent, without a word of what is secret.
func TestNewRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		"url: malformed":              {URL: "http://hunter2\x00"},
		"url: credentials belong":     {URL: "http://me:hunter2@x/"},
		"want http or https":          {URL: "ftp://x/"},
		"belong together":             {URL: "http://x/", Credentials: Credentials{Username: "me"}},
		"exclude each other":          {URL: "http://x/", Credentials: Credentials{Username: "me", PasswordFile: "p", BearerTokenFile: "t"}},
		"no certificate in it":        {URL: "http://x/", Trust: Trust{CAFile: file(t, "nothing")}},
		"proxy url: credentials":      {URL: "http://x/", Proxy: Proxy{ProxyURL: "http://me:hunter2@y/"}},
		"of the proxy belong":         {URL: "http://x/", Proxy: Proxy{ProxyURL: "http://y/", ProxyUsername: "me"}},
		"for the proxy needs its url": {URL: "http://x/", Proxy: Proxy{ProxyUsername: "me", ProxyPasswordFile: "p"}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A header that is none is named by its line, and its secret is not.
func TestHeaders(t *testing.T) {
	h := http.Header{}
	if err := (Credentials{HeadersFile: file(t, "# who\nX-Scope: a: b\n\nX-Key: k\n")}).Apply(h); err != nil || h.Get("X-Scope") != "a: b" || h.Get("X-Key") != "k" {
		t.Errorf("%v, %v", h, err)
	}
	err := Credentials{HeadersFile: file(t, "X-Key: k\nhunter2\n")}.Apply(http.Header{})
	if err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

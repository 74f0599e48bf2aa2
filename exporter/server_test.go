package exporter

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// writeCertificate writes a self-signed certificate for 127.0.0.1 and its key.
func writeCertificate(t *testing.T, dir string) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sonde test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile = writeFile(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	keyFile = writeFile(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return certFile, keyFile, pool
}

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve runs the exporter until the test ends and wants it to stop without an error.
func serve(t *testing.T, e *Exporter) {
	t.Helper()
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// secretHash is "secret" under bcrypt, with the least cost.
const secretHash = "$2a$04$TnFtISP/4Z65gs3mjg9Asu2LWbu5MIzfHdepQGWF8keDKcHt3yRl2"

func TestServeTLSAndBasicAuth(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, pool := writeCertificate(t, dir)
	config := writeFile(t, dir, "web.yml", "tls_server_config:\n  cert_file: "+certFile+"\n  key_file: "+keyFile+
		"\nbasic_auth_users:\n  alice: "+secretHash+"\n")
	// Two listeners: each must have the authentication.
	e := newFake(t, Options{ListenAddresses: []string{"127.0.0.1:0", "127.0.0.1:0"}, WebConfigFile: config}, nil)
	serve(t, e)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for _, a := range e.Addresses() {
		for password, want := range map[string]int{"secret": 200, "guess": 401} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+a.String()+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("alice", password)
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != want || (want == 200) != strings.Contains(string(body), "sonde_fake_calls_total") {
				t.Errorf("password %q: status %d, want %d", password, resp.StatusCode, want)
			}
		}
	}
}

func TestListenReportsATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()

	e := newFake(t, Options{ListenAddresses: []string{free.Addr().String(), taken.Addr().String()}}, nil)
	err = e.Run(t.Context())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %v, want EADDRINUSE and the address", err)
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the other port was left open: %v", err)
	}
	again.Close()
}

func TestListenRefusesABadWebConfig(t *testing.T) {
	config := writeFile(t, t.TempDir(), "web.yml", "tls_server_config:\n  cert_file: /nonexistent\n  key_file: /nonexistent\n")
	for _, file := range []string{config, "/nonexistent.yml"} {
		e := newFake(t, Options{ListenAddresses: []string{"127.0.0.1:0"}, WebConfigFile: file}, nil)
		if err := e.Listen(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("web config %s: error %v", file, err)
		}
		if n := len(e.Addresses()); n != 0 {
			t.Errorf("%d listeners are open", n)
		}
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

	e := newFake(t, Options{ListenAddresses: []string{unixsocket.Scheme + path}}, nil)
	serve(t, e)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://sonde/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	second := newFake(t, Options{ListenAddresses: []string{unixsocket.Scheme + path}}, nil)
	if err := second.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener on a live socket: %v, want EADDRINUSE", err)
	}
}

// TestShutdownLetsAScrapeFinish stops the exporter in the middle of a scrape.
func TestShutdownLetsAScrapeFinish(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	e := newFake(t, Options{ListenAddresses: []string{"127.0.0.1:0"}}, map[string]CollectorFunc{
		"slow": func(context.Context) ([]prometheus.Metric, error) {
			close(started)
			<-release
			return nil, nil
		},
	})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx) }()

	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + e.Addresses()[0].String() + "/metrics")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-started
	stop()
	for { // until the listener is closed, which is when the shutdown has begun
		c, err := net.Dial("tcp", e.Addresses()[0].String())
		if err != nil {
			break
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
	close(release)
	if body := <-answer; !strings.Contains(body, `sonde_collector_success{collector="slow"} 1`) {
		t.Errorf("the scrape did not finish: %s", body)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

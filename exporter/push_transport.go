package exporter

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// VictoriaMetrics' push function always uses the default HTTP client: it has no place
// for own authorities, and its errors cannot be told apart. But it passes its context
// to the request, so each try carries its transport in there. A hook in the default
// transport hands such requests over and lets all others pass as ever.

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 10

// pushTransport sends to one receiver.
type pushTransport struct {
	opts   *PushOptions
	target *url.URL
	client *http.Transport
}

func newPushTransport(o *PushOptions, target *url.URL) (*pushTransport, error) {
	if err := installHook(); err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities %s: no certificate in it", o.CAFile)
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
			return &c, err
		}
	}
	return &pushTransport{opts: o, target: target, client: &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   config,
		ForceAttemptHTTP2: true,
		MaxIdleConns:      1,
		IdleConnTimeout:   2 * o.Interval,
	}}, nil
}

// outerURL is the URL to give to the push function: that of the target, but with the
// scheme the hook is registered for.
func (t *pushTransport) outerURL() string {
	u := *t.target
	u.Scheme = hookScheme
	return u.String()
}

// send performs the request against the real target.
func (t *pushTransport) send(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = t.target.Scheme
	if err := t.authorize(r.Header); err != nil {
		_ = r.Body.Close() // as every RoundTripper must
		return nil, &pushError{reason: pushCredentials, err: err}
	}
	resp, err := t.client.RoundTrip(r)
	if err != nil {
		return nil, &pushError{reason: networkReason(err), err: err}
	}
	resp.Body = limitedBody{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return nil, &pushError{
		reason:     statusReason(resp.StatusCode),
		err:        fmt.Errorf("post to %s: %s: %q", t.target.Redacted(), resp.Status, bytes.TrimSpace(text)),
		retryAfter: retryAfter(resp.Header),
	}
}

// authorize adds headers and credentials from their files.
func (t *pushTransport) authorize(h http.Header) error {
	if t.opts.HeadersFile != "" {
		text, err := os.ReadFile(t.opts.HeadersFile)
		if err != nil {
			return fmt.Errorf("read headers: %w", err)
		}
		if err := parseHeaders(text, h); err != nil {
			return fmt.Errorf("read headers %s: %w", t.opts.HeadersFile, err)
		}
	}
	if t.opts.BearerTokenFile != "" {
		token, err := os.ReadFile(t.opts.BearerTokenFile)
		if err != nil {
			return fmt.Errorf("read bearer token: %w", err)
		}
		h.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	if t.opts.PasswordFile != "" {
		password, err := os.ReadFile(t.opts.PasswordFile)
		if err != nil {
			return fmt.Errorf("read password: %w", err)
		}
		r := http.Request{Header: h}
		r.SetBasicAuth(t.opts.Username, strings.TrimRight(string(password), "\r\n"))
	}
	return nil
}

// parseHeaders adds one header a line. An error names the line, not its secret.
func parseHeaders(text []byte, h http.Header) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !found || name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("line %d: want \"Name: value\"", n)
		}
		h.Set(name, strings.TrimSpace(value))
	}
	return lines.Err()
}

// networkReason tells why no answer came.
func networkReason(err error) pushReason {
	var (
		netErr    net.Error
		verifyErr *tls.CertificateVerificationError
		alertErr  tls.AlertError
		recordErr tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &verifyErr), errors.As(err, &alertErr), errors.As(err, &recordErr):
		return pushTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return pushTimeout
	}
	return pushConnect
}

func statusReason(code int) pushReason {
	switch {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return pushUnauthorized
	case code == http.StatusTooManyRequests, code >= 500:
		return pushServer
	case code/100 == 3:
		return pushRedirect
	}
	return pushRejected
}

// retryAfter reads the header in its form of seconds; the other form is not worth it.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

type limitedBody struct {
	io.Reader
	io.Closer
}

// pushAttempt is one try on its way through the push function.
type pushAttempt struct {
	transport *pushTransport
	answered  bool
	failure   *pushError
}

type attemptKey struct{}

func (a *pushAttempt) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptKey{}, a)
}

// result tells how the try ended. The push function reports some failures as
// success (a cancelled context) and all others as text, so what the transport saw
// comes first.
func (a *pushAttempt) result(err error) *pushError {
	switch {
	case a.failure != nil:
		return a.failure
	case err != nil:
		return &pushError{reason: pushRejected, err: err}
	case !a.answered:
		return &pushError{reason: pushTimeout, err: context.Canceled}
	}
	return nil
}

// hookScheme is the scheme of the URLs given to the push function.
const hookScheme = "http"

// installHook adds the hook to the default transport, once in a process: the
// transport refuses a second one for the same scheme.
var installHook = sync.OnceValue(func() (err error) {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return errors.New("the default HTTP transport has been replaced")
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the default HTTP transport: %v", p)
		}
	}()
	t.RegisterProtocol(hookScheme, pushHook{})
	return nil
})

// pushHook hands requests that carry a try to its transport.
type pushHook struct{}

func (pushHook) RoundTrip(r *http.Request) (*http.Response, error) {
	a, ok := r.Context().Value(attemptKey{}).(*pushAttempt)
	if !ok {
		return nil, http.ErrSkipAltProtocol
	}
	resp, err := a.transport.send(r)
	if errors.As(err, &a.failure) {
		return nil, err
	}
	a.answered = true
	return resp, nil
}

// Package outbound is how the sensor speaks HTTP to others: whom it trusts, who it is,
// by which proxy, all from files, and with failures that say what to do.
package outbound

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 10

// Options say where a Client sends, and as whom. Files with credentials and client
// certificates are read again whenever they are used, so that they can be replaced.
type Options struct {
	// URL is what is sent to: http or https, without credentials.
	URL string
	Trust
	Credentials
	Proxy
	// IdleTimeout closes a connection that has carried nothing for so long; 0 keeps it.
	IdleTimeout time.Duration
}

// Trust says whose certificates are believed, and which one is shown.
type Trust struct {
	CAFile            string // PEM; "" are the authorities of the system
	CertFile, KeyFile string // PEM of a client certificate; "" is none
}

// Config returns the settings of TLS. The authorities are read now.
func (t Trust) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities %s: no certificate in it", t.CAFile)
		}
	}
	if t.CertFile == "" && t.KeyFile == "" {
		return config, nil
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		return &pair, nil
	}
	return config, nil
}

// Client sends to one receiver. It may be used from any goroutine.
type Client struct {
	o         Options
	target    *url.URL
	transport *http.Transport
}

// New returns a Client that has not connected yet, or every fault of the options.
func New(o Options) (*Client, error) {
	target, urlErr := parse("url", o.URL)
	config, trustErr := o.Config()
	proxy, proxyErr := o.choose()
	if err := errors.Join(urlErr, o.validate(), trustErr, proxyErr); err != nil {
		return nil, err
	}
	return &Client{o: o, target: target, transport: &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: proxyAnswer,
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1,
		IdleConnTimeout:        o.IdleTimeout,
	}}, nil
}

// parse reads a URL. Its errors repeat nothing that may be secret.
func parse(what, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: malformed", what)
	case u.User != nil:
		return nil, fmt.Errorf("%s: credentials belong in files", what)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("%s %q: want http or https and a host", what, text)
	}
	return u, nil
}

// Target is where the Client sends.
func (c *Client) Target() *url.URL {
	u := *c.target
	return &u
}

// Do sends a request with the credentials, once, to the scheme and host of the target.
// An answer that is not 2xx is an error; every error is a *Failure. Of an answer the
// first KiB can be read, and the caller closes it.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = c.target.Scheme, c.target.Host
	if err := c.o.Apply(r.Header); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as every RoundTripper must
		}
		return nil, &Failure{Reason: BadCredentials, Err: err}
	}
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, &Failure{Reason: reasonOf(err), Err: err}
	}
	resp.Body = limited{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return nil, &Failure{
		Reason:     reasonOfStatus(resp.StatusCode),
		Err:        fmt.Errorf("post to %s://%s%s: %s: %q", c.target.Scheme, c.target.Host, c.target.Path, resp.Status, bytes.TrimSpace(text)),
		RetryAfter: retryAfter(resp.Header),
	}
}

// Close closes the connection that is kept.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

type limited struct {
	io.Reader
	io.Closer
}

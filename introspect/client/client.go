// Package client asks a running sensor over its introspection listener. Answers are
// decoded into the types that package introspect encodes.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/outbound"
)

// maxAnswer bounds an answer, in bytes: 65536 processes with long arguments have some
// 100 MiB.
const maxAnswer = 512 << 20

// maxLine bounds a line of an answer that goes on, in bytes: an event with the longest
// texts, every character of them escaped, has some 50 KiB.
const maxLine = 1 << 20

// Options say which sensor to ask, and who asks.
type Options struct {
	// Address is host:port, http://host:port, https://host:port or unix:///path.
	Address string
	outbound.Trust
	outbound.Credentials
	// Timeout bounds one question with its answer; 0 is no bound.
	Timeout time.Duration
}

// Client asks one sensor. It may be used from any goroutine.
type Client struct {
	base string // scheme and host
	http http.Client
	auth func(http.Header) error
}

// Error is an answer that refuses.
type Error struct {
	Asked  string // method and path
	Status int
	Text   string // what the sensor says
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %d %s: %s", e.Asked, e.Status, http.StatusText(e.Status), e.Text)
}

// New reads the files that the options name, so that what is wrong with one is told at
// once; it does not connect yet.
func New(o Options) (*Client, error) {
	network, address, base, err := Parse(o.Address)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
	if transport.TLSClientConfig, err = o.Config(); err != nil {
		return nil, err
	}
	if show := transport.TLSClientConfig.GetClientCertificate; show != nil {
		if _, err := show(nil); err != nil {
			return nil, err
		}
	}
	if err := o.Apply(http.Header{}); err != nil {
		return nil, err
	}
	c := &Client{base: base, auth: o.Apply, http: http.Client{
		Transport: transport, Timeout: o.Timeout,
		// A sensor sends nobody elsewhere, least of all with credentials.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return c, nil
}

// Parse takes an address apart: what to dial, and how URLs begin.
func Parse(address string) (network, dial, base string, err error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", "", "", errors.New("write unix:///path")
		}
		return "unix", path, "http://localhost", nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", "", "", errors.New("write host:port, http://host:port, https://host:port or unix:///path")
	}
	if u.User != nil {
		return "", "", "", errors.New("credentials do not belong there; use --username and --password-file")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return "tcp", net.JoinHostPort(u.Hostname(), port), u.Scheme + "://" + u.Host, nil
}

// Get asks for a path, with its query if it has one, and decodes the answer. An
// answer that refuses is an *Error.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.Ask(ctx, http.MethodGet, path, "", into)
}

// Ask sends a body and decodes the answer. Also the statuses in fine are answers.
func (c *Client) Ask(ctx context.Context, method, path, body string, into any, fine ...int) error {
	return c.ask(ctx, method, path, body, func(answer io.Reader) error {
		if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(into); err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
		return nil
	}, append(fine, http.StatusOK))
}

// Follow gets lines as they come and hands out one after the other, valid until the
// next, until the sensor ends them or take returns an error, which Follow returns.
// The time of Options is for the answer to begin.
func (c *Client) Follow(ctx context.Context, path string, take func(line []byte) error) error {
	transport := c.http.Transport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = c.http.Timeout
	defer transport.CloseIdleConnections()
	endless := &Client{base: c.base, auth: c.auth, http: http.Client{Transport: transport, CheckRedirect: c.http.CheckRedirect}}
	return endless.ask(ctx, http.MethodGet, path, "", func(answer io.Reader) error {
		lines := bufio.NewScanner(answer)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			if err := take(lines.Bytes()); err != nil {
				return err
			}
		}
		return lines.Err()
	}, []int{http.StatusOK})
}

// File gets a file, whole.
func (c *Client) File(ctx context.Context, path string) (file []byte, err error) {
	err = c.ask(ctx, http.MethodGet, path, "", func(answer io.Reader) error {
		file, err = io.ReadAll(io.LimitReader(answer, maxAnswer))
		return err
	}, []int{http.StatusOK})
	return file, err
}

// ask sends a body and hands out the answer, if its status is one of those in fine.
func (c *Client) ask(ctx context.Context, method, path, body string, read func(io.Reader) error, fine []int) error {
	asked := method + " " + path
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	if err := c.auth(r.Header); err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("%s: %w", asked, cause(err))
	}
	defer answer.Body.Close()
	if !slices.Contains(fine, answer.StatusCode) {
		return refusal(asked, answer.StatusCode, answer.Body)
	}
	if err := read(answer.Body); err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	return nil
}

// refusal reads why an answer refuses.
func refusal(asked string, status int, text io.Reader) error {
	const longest = 64 << 10 // bytes
	body, err := io.ReadAll(io.LimitReader(text, longest))
	if err != nil {
		return fmt.Errorf("%s: read answer: %w", asked, err)
	}
	var said struct{ Error string }
	if err := json.Unmarshal(body, &said); err != nil || said.Error == "" {
		said.Error = string(bytes.TrimSpace(body)) // not the sensor itself: its web configuration, or somebody else
	}
	return &Error{Asked: asked, Status: status, Text: said.Error}
}

// cause takes the URL out of the error: it has been said already.
func cause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

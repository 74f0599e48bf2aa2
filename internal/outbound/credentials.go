package outbound

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Credentials say who asks. They are in files; only the user's name is not secret.
type Credentials struct {
	Username, PasswordFile string
	BearerTokenFile        string
	HeadersFile            string // one "Name: value" a line; # begins a comment
}

func (c Credentials) validate() error {
	var faults []error
	if (c.Username == "") != (c.PasswordFile == "") {
		faults = append(faults, errors.New("user name and password file belong together"))
	}
	if c.Username != "" && c.BearerTokenFile != "" {
		faults = append(faults, errors.New("user name and bearer token file exclude each other"))
	}
	return errors.Join(faults...)
}

// Apply reads the files and adds what is in them.
func (c Credentials) Apply(h http.Header) error {
	if c.HeadersFile != "" {
		text, err := os.ReadFile(c.HeadersFile)
		if err != nil {
			return fmt.Errorf("read headers: %w", err)
		}
		if err := parseHeaders(text, h); err != nil {
			return fmt.Errorf("read headers %s: %w", c.HeadersFile, err)
		}
	}
	if c.BearerTokenFile != "" {
		token, err := os.ReadFile(c.BearerTokenFile)
		if err != nil {
			return fmt.Errorf("read bearer token: %w", err)
		}
		h.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	if c.PasswordFile != "" {
		password, err := readPassword(c.PasswordFile)
		if err != nil {
			return err
		}
		r := http.Request{Header: h}
		r.SetBasicAuth(c.Username, password)
	}
	return nil
}

func readPassword(path string) (string, error) {
	password, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return strings.TrimRight(string(password), "\r\n"), nil
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

// Proxy says through whom to send.
type Proxy struct {
	ProxyURL                         string // "" is what HTTPS_PROXY and its kin say
	ProxyUsername, ProxyPasswordFile string
}

// choose returns how a request finds its proxy.
func (p Proxy) choose() (func(*http.Request) (*url.URL, error), error) {
	if (p.ProxyUsername == "") != (p.ProxyPasswordFile == "") {
		return nil, errors.New("user name and password file of the proxy belong together")
	}
	if p.ProxyURL == "" {
		if p.ProxyUsername != "" {
			return nil, errors.New("a user name for the proxy needs its url")
		}
		return http.ProxyFromEnvironment, nil
	}
	proxy, err := parse("proxy url", p.ProxyURL)
	if err != nil {
		return nil, err
	}
	return func(*http.Request) (*url.URL, error) {
		u := *proxy
		if p.ProxyPasswordFile != "" {
			password, err := readPassword(p.ProxyPasswordFile)
			if err != nil {
				return nil, &Failure{Reason: BadCredentials, Err: err}
			}
			u.User = url.UserPassword(p.ProxyUsername, password)
		}
		return &u, nil
	}, nil
}

// proxyAnswer makes a refusal of the proxy's own tell itself apart from the receiver's.
func proxyAnswer(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &Failure{Reason: ProxyRefused, Err: fmt.Errorf("proxy %s: %s", proxy.Host, answer.Status)}
}

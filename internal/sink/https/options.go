package https

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sonde-ebpf/sonde/internal/outbound"
)

// Defaults and bounds of the options.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultPatience = 5 * time.Minute

	// MaxTimeout keeps a receiver that is slow apart from a sink that is stuck.
	MaxTimeout  = 20 * time.Second
	MaxPatience = 24 * time.Hour
)

// Options say who receives, and how long it is waited for.
type Options struct {
	outbound.Options
	Timeout  time.Duration // of one try
	Patience time.Duration // of all tries of one request
	Compress bool          // with gzip
}

// ParseOptions reads the config object of a session's sink. It returns every fault.
func ParseOptions(config map[string]any) (Options, error) {
	o := Options{Timeout: DefaultTimeout, Patience: DefaultPatience, Compress: true}
	o.IdleTimeout = time.Minute
	texts := map[string]*string{
		"url": &o.URL, "ca_file": &o.CAFile, "cert_file": &o.CertFile, "key_file": &o.KeyFile,
		"username": &o.Username, "password_file": &o.PasswordFile, "bearer_token_file": &o.BearerTokenFile, "headers_file": &o.HeadersFile,
		"proxy_url": &o.ProxyURL, "proxy_username": &o.ProxyUsername, "proxy_password_file": &o.ProxyPasswordFile,
	}
	times := map[string]span{"timeout": {&o.Timeout, MaxTimeout}, "patience": {&o.Patience, MaxPatience}}
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if err := set(texts[key], times[key], &o.Compress, key, config[key]); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	if err := secure(o.URL); err != nil {
		faults = append(faults, err)
	}
	return o, errors.Join(faults...)
}

// span is a time with its longest value.
type span struct {
	into *time.Duration
	max  time.Duration
}

func set(text *string, to span, compress *bool, key string, value any) error {
	written, isText := value.(string)
	switch {
	case text != nil && isText:
		*text = written
	case text != nil:
		return errors.New("write a text")
	case to.into != nil:
		d, err := time.ParseDuration(written)
		if err != nil || d <= 0 || d > to.max {
			return fmt.Errorf("write a duration up to %v, such as 5s", to.max)
		}
		*to.into = d
	case key == "compress":
		on, err := strconv.ParseBool(fmt.Sprint(value))
		if err != nil {
			return errors.New("write true or false")
		}
		*compress = on
	default:
		return errors.New("no such key; there are url, ca_file, cert_file, key_file, username, password_file, bearer_token_file, headers_file, " +
			"proxy_url, proxy_username, proxy_password_file, timeout, patience, compress")
	}
	return nil
}

// secure refuses to send events in clear to anybody but this machine.
func secure(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "https" { // what is malformed is refused with the rest
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("url: write https://…: events in clear go to loopback only")
}

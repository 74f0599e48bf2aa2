package config

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Origin says where an effective value comes from. A later one wins.
type Origin string

// The origins, in the order in which they override each other.
const (
	OriginDefault Origin = "default"
	OriginFile    Origin = "file"
	OriginEnv     Origin = "env"
	OriginFlag    Origin = "flag"
	OriginPut     Origin = "put" // PUT /state/runtime-config
)

// Value is one effective value. Secrets in it print as redacted.
type Value struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin Origin `json:"origin"`
}

// Values lists every key of the file with its effective value, in the order of
// the schema.
func (c *Config) Values() []Value {
	var all []Value
	var walk func(key string, fields []field)
	walk = func(key string, fields []field) {
		for _, f := range fields {
			path := join(key, f.name)
			if f.set == nil {
				walk(path, f.fields)
				continue
			}
			all = append(all, Value{Key: path, Value: f.get(), Origin: c.Origin(path)})
		}
	}
	walk("", c.schema())
	return all
}

// Origin returns where the value of a key comes from.
func (c *Config) Origin(key string) Origin {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return OriginDefault
}

// Bytes is a size.
type Bytes uint64

var units = []struct {
	name string
	size Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseBytes reads a whole number with KiB, MiB, GiB, B or no unit (bytes).
func ParseBytes(text string) (Bytes, error) {
	digits, unit := text, Bytes(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			digits, unit = strings.TrimRight(rest, " "), u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxInt64/uint64(unit) {
		return 0, fmt.Errorf("write a whole number with KiB, MiB or GiB, such as 8MiB")
	}
	return Bytes(n) * unit, nil
}

// String writes the size with the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range units {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatUint(uint64(b/u.size), 10) + u.name
		}
	}
	return "0B"
}

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Prefix is a range of addresses.
type Prefix struct{ netip.Prefix }

// ParsePrefix reads a CIDR without bits beyond its length, or a single address.
func ParsePrefix(text string) (Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return Prefix{netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Prefix{}, fmt.Errorf("write a range of addresses, such as 203.0.113.0/24 or fe80::/10")
	}
	if p != p.Masked() {
		return Prefix{}, fmt.Errorf("it has bits beyond its length; write %s", p.Masked())
	}
	return Prefix{p}, nil
}

func mustPrefix(text string) Prefix { return Prefix{netip.MustParsePrefix(text)} }

// redacted is what a secret prints as, everywhere.
const redacted = "[redacted]"

// Secret is a text that no log, error, JSON or format verb shows. Reveal is the
// only way to it.
type Secret struct{ text string }

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text. Its callers are few, and none of them prints.
func (s Secret) Reveal() string { return s.text }

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// String shows only whether there is a secret.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return redacted
}

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// RedactURL hides the user and the query of a URL: both carry credentials. What
// cannot be parsed is hidden as a whole.
func RedactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	return u.String()
}

package sink

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// json appends JSON to a buffer. Members are separated by themselves; nothing is
// allocated once the buffer is large enough.
type json struct {
	b    []byte
	next bool // something stands before, so a comma is due
	cut  pruning

	stamps stamps
}

// comma begins a member or an element.
func (j *json) comma() {
	if j.next {
		j.b = append(j.b, ',')
	}
	j.next = true
}

func (j *json) key(name string) {
	if j.cut.on {
		j.judge(name)
	}
	b := j.b
	if j.next {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	j.b = append(b, '"', ':')
	j.next = false
}

func (j *json) open(c byte) {
	j.comma()
	if j.cut.on {
		j.enter()
	}
	j.b = append(j.b, c)
	j.next = false
}

func (j *json) close(c byte) {
	if j.cut.on {
		j.leave()
	}
	j.b = append(j.b, c)
	j.next = true
}

// object begins a member that is an object.
func (j *json) object(name string) {
	j.key(name)
	j.open('{')
}

// uint is a number of 32 bits or fewer, or one in a wrapper type.
func (j *json) uint(name string, v uint64) {
	j.key(name)
	j.b = strconv.AppendUint(j.b, v, 10)
	j.next = true
}

func (j *json) int(name string, v int64) {
	j.key(name)
	j.b = strconv.AppendInt(j.b, v, 10)
	j.next = true
}

// uint64 is a number of 64 bits, which protobuf's JSON writes as a string.
func (j *json) uint64(name string, v uint64) {
	j.key(name)
	j.b = append(j.b, '"')
	j.b = strconv.AppendUint(j.b, v, 10)
	j.b = append(j.b, '"')
	j.next = true
}

// int64 is the same with a sign.
func (j *json) int64(name string, v int64) {
	j.key(name)
	j.b = append(j.b, '"')
	j.b = strconv.AppendInt(j.b, v, 10)
	j.b = append(j.b, '"')
	j.next = true
}

// string is a text; an empty one is left out, as protobuf's JSON does.
func (j *json) string(name, v string) {
	if v != "" {
		j.quoted(name, v)
	}
}

// quoted is a text that is there even if it is empty: one of several forms of a value.
func (j *json) quoted(name, v string) {
	j.key(name)
	j.b = append(j.b, '"')
	j.text(v)
	j.b = append(j.b, '"')
	j.next = true
}

func (j *json) time(name string, t time.Time) {
	j.key(name)
	j.b = append(j.b, '"')
	j.b = j.stamps.append(j.b, t)
	j.b = append(j.b, '"')
	j.next = true
}

func (j *json) address(name string, a netip.Addr) {
	j.key(name)
	j.b = append(j.b, '"')
	j.b = a.AppendTo(j.b)
	j.b = append(j.b, '"')
	j.next = true
}

func (j *json) base64(name string, raw []byte) {
	j.key(name)
	b := append(j.b, '"')
	b = base64.StdEncoding.AppendEncode(b, raw)
	j.b = append(b, '"')
	j.next = true
}

func (j *json) hex(name string, raw []byte) {
	j.key(name)
	j.b = append(j.b, '"')
	for _, c := range raw {
		j.b = append(j.b, hex[c>>4], hex[c&15])
	}
	j.b = append(j.b, '"')
	j.next = true
}

const hex = "0123456789abcdef"

// plain are the bytes that stand for themselves between quotes.
var plain = func() (all [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		all[c] = c != '"' && c != '\\'
	}
	return all
}()

// text appends what stands between quotes. Texts are valid UTF-8 by now; what is
// not, of a source that did not look, is replaced.
func (j *json) text(s string) {
	b, from := j.b, 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), '?')
				from = i + 1
			}
			i += n
			continue
		}
		b = appendEscaped(append(b, s[from:i]...), c)
		i++
		from = i
	}
	j.b = append(b, s[from:]...)
}

// appendEscaped appends one that does not.
func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\t':
		return append(b, '\\', 't')
	case '\r':
		return append(b, '\\', 'r')
	default:
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
}

package introspect

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// flushBytes is how much of an answer is gathered before it is sent.
const flushBytes = 32 << 10

// encoder writes an answer of any length through one small buffer. The first error
// sticks: the client has gone, or the time is over.
type encoder struct {
	c   *call
	buf []byte
	err error
}

func (c *call) encoder(total int) *encoder {
	header(c.w)
	c.w.Header().Set("X-Total-Count", strconv.Itoa(total))
	return &encoder{c: c, buf: make([]byte, 0, flushBytes+4096)}
}

// row ends one row: it sends what has been gathered if that is enough, and reports
// whether there is still somebody to send to.
func (e *encoder) row() bool {
	if len(e.buf) >= flushBytes {
		e.flush()
	}
	return e.err == nil
}

func (e *encoder) flush() {
	if e.err == nil {
		e.err = e.c.r.Context().Err()
	}
	if e.err == nil {
		e.c.began = true
		_, e.err = e.c.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

// close sends the rest.
func (e *encoder) close() error {
	e.raw("\n")
	e.flush()
	return e.err
}

func (e *encoder) raw(text string) { e.buf = append(e.buf, text...) }
func (e *encoder) uint(key string, n uint64) {
	e.buf = strconv.AppendUint(append(e.buf, key...), n, 10)
}
func (e *encoder) bool(key string, v bool)             { e.buf = strconv.AppendBool(append(e.buf, key...), v) }
func (e *encoder) text(key, text string)               { e.buf = appendString(append(e.buf, key...), text) }
func (e *encoder) addr(key string, a netip.Addr)       { e.quoted(key, a.AppendTo) }
func (e *encoder) prefix(key string, p netip.Prefix)   { e.quoted(key, p.AppendTo) }
func (e *encoder) socket(key string, a netip.AddrPort) { e.quoted(key, a.AppendTo) }

// time writes a time, nothing for the zero time.
func (e *encoder) time(key string, t time.Time) {
	if !t.IsZero() {
		e.quoted(key, func(b []byte) []byte { return t.UTC().AppendFormat(b, time.RFC3339Nano) })
	}
}

func (e *encoder) quoted(key string, appendTo func([]byte) []byte) {
	e.buf = append(e.buf, key...)
	e.buf = append(e.buf, '"')
	e.buf = appendTo(e.buf)
	e.buf = append(e.buf, '"')
}

// optional writes a text unless it is empty.
func (e *encoder) optional(key, text string) {
	if text != "" {
		e.text(key, text)
	}
}

// Write implements io.Writer: it gathers.
func (e *encoder) Write(text []byte) (int, error) {
	e.buf = append(e.buf, text...)
	return len(text), nil
}

// value writes one value of a type that says its own shape.
func (e *encoder) value(v any) {
	j := json.NewEncoder(e)
	j.SetEscapeHTML(false)
	if err := j.Encode(v); err != nil && e.err == nil {
		e.err = err
	}
	e.buf = bytes.TrimSuffix(e.buf, []byte("\n"))
}

// arguments takes texts apart that are separated by NUL; nil for none.
func arguments(args string) []string {
	if args == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(args, "\x00"), "\x00")
}

// appendString writes a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, text string) []byte {
	plain := true
	for i := 0; plain && i < len(text); i++ {
		c := text[i]
		plain = c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != 0x7f
	}
	if plain {
		b = append(b, '"')
		b = append(b, text...)
		return append(b, '"')
	}
	quoted, err := json.Marshal(text)
	if err != nil { // no string cannot be written
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// byContainer writes {"container":[row,…],…} of rows that come container by
// container.
type byContainer struct {
	*encoder
	container string
	any       bool
}

// begin makes room for a row of the container.
func (e *byContainer) begin(container string) {
	switch {
	case !e.any:
		e.text("{", container)
		e.raw(":[")
	case container != e.container:
		e.text("],", container)
		e.raw(":[")
	default:
		e.raw(",")
	}
	e.container, e.any = container, true
}

// end writes what is left to write. A container that was asked for is there even if
// it has nothing.
func (e *byContainer) end(asked string) error {
	switch {
	case e.any:
		e.raw("]}")
	case asked != "":
		e.text("{", asked)
		e.raw(":[]}")
	default:
		e.raw("{}")
	}
	return e.close()
}

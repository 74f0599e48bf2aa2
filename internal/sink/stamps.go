package sink

import "time"

// stamps writes times as time.RFC3339Nano does, in UTC. It remembers seconds that it has
// written: most times are of one that was just before. The zero value is ready.
type stamps [16]struct {
	unix int64
	text [len(second)]byte
}

const second = "2006-01-02T15:04:05"

// append appends a time of the years 0 to 9999.
func (s *stamps) append(b []byte, t time.Time) []byte {
	unix := t.Unix()
	at := &s[unix&int64(len(s)-1)]
	if at.unix != unix || at.text[0] == 0 {
		t.UTC().AppendFormat(at.text[:0], second)
		at.unix = unix
	}
	b = append(b, at.text[:]...)
	if ns := t.Nanosecond(); ns != 0 {
		b = append(b, '.')
		for digit := 100_000_000; ns > 0; digit /= 10 {
			b = append(b, '0'+byte(ns/digit))
			ns %= digit
		}
	}
	return append(b, 'Z')
}

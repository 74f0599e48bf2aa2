package bundle

import (
	"bytes"
	"regexp"
	"slices"

	"github.com/sonde-ebpf/sonde/internal/config"
)

// mark takes the place of a secret.
const mark = "[redacted]"

// secretName is a name that says that its value is a secret, and what stands between them.
const secretName = `(?:password|passwd|passphrase|secret|token|credentials?|api[_-]?key|access[_-]?key|private[_-]?key|cookie)[\w.-]*["']?\s*[:=]\s*`

// shapes are what secrets look like. Of each match the groups are kept, and the mark
// stands between them.
var shapes = []*regexp.Regexp{
	// user and password of a URL, and its query
	regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s"'@]+(@)`),
	regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'?<>]+\?)[^\s"'<>]+()`),
	// what HTTP sends to say who asks
	regexp.MustCompile(`(?i)((?:proxy-)?authorization["']?\s*[:=]\s*["']?)[^"'\r\n]+()`),
	regexp.MustCompile(`(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}()`),
	// a name that says so, and its value, as in files, environments and arguments
	regexp.MustCompile(`(?i)(` + secretName + `")(?:[^"\\\n]|\\.)+(")`),
	regexp.MustCompile(`(?i)(` + secretName + `')[^'\n]+(')`),
	regexp.MustCompile(`(?i)(` + secretName + `["']?)[^\s"',;{}\[\]]+()`),
	regexp.MustCompile(`(?i)(--?(?:[\w.-]*-)?(?:password|secret|token|api-key)\s+)\S+()`),
	// whole environments, as systemctl shows them
	regexp.MustCompile(`(?m)^(Environment=).+()`),
	// keys and tokens by their form
	regexp.MustCompile(`(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]*(-----END)`),
	regexp.MustCompile(`()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*()`),
	regexp.MustCompile(`()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b()`),
}

// leastSecret is the shortest known secret that is looked for, in bytes: a shorter
// one would be found everywhere.
const leastSecret = 4

// Redactor takes secrets out of texts: those it was told of wherever they are, and
// whatever has the shape of one.
type Redactor struct{ known [][]byte }

// NewRedactor makes one that knows some secrets.
func NewRedactor(known ...config.Secret) *Redactor {
	r := &Redactor{}
	for _, s := range known {
		if text := s.Reveal(); len(text) >= leastSecret {
			r.known = append(r.known, []byte(text))
		}
	}
	slices.SortFunc(r.known, func(a, b []byte) int { return len(b) - len(a) }) // one may be part of another
	return r
}

// Redact returns the text without secrets, and how many it has taken out.
func (r *Redactor) Redact(text []byte) (clean []byte, n int) {
	for _, secret := range r.known {
		if found := bytes.Count(text, secret); found > 0 {
			text, n = bytes.ReplaceAll(text, secret, []byte(mark)), n+found
		}
	}
	for _, shape := range shapes {
		text = shape.ReplaceAllFunc(text, func(match []byte) []byte {
			kept := shape.FindSubmatch(match)
			if bytes.Equal(match, slices.Concat(kept[1], []byte(mark), kept[2])) {
				return match
			}
			n++
			return slices.Concat(kept[1], []byte(mark), kept[2])
		})
	}
	return text, n
}

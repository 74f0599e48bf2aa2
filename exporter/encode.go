package exporter

import (
	"io"
	"strings"
	"sync"

	"github.com/prometheus/common/expfmt"
)

// The encoders write declared families straight from their samples. expfmt would do
// the same by way of one protobuf message per sample, label and bucket, which costs
// several times the rest of a scrape (see BenchmarkScrape); a test holds the two to
// the same bytes. Families that come as messages go through expfmt.

// encoder writes families in one format.
type encoder interface {
	encode(f *family) error
	// close writes what ends the exposition and what is still buffered.
	close() error
}

// accepted lists the formats, the preferred first.
var accepted = []expfmt.Format{
	expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtProtoDelim, expfmt.FmtText,
}

func newEncoder(w io.Writer, format expfmt.Format) encoder {
	switch format.FormatType() {
	case expfmt.TypeProtoDelim:
		return newProtoEncoder(w, format)
	case expfmt.TypeOpenMetrics:
		return newTextEncoder(w, true)
	default:
		return newTextEncoder(w, false)
	}
}

func encode(enc encoder, families []family) error {
	for i := range families {
		if err := enc.encode(&families[i]); err != nil {
			return err
		}
	}
	return enc.close()
}

// buffer collects output and hands it on in large pieces.
type buffer struct {
	w io.Writer
	b []byte
}

// Sizes in bytes.
const (
	flushAt   = 32 << 10
	keepBelow = 256 << 10 // a buffer that has grown above is not kept
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, flushAt+4096); return &b }}

func newBuffer(w io.Writer) buffer {
	return buffer{w: w, b: (*buffers.Get().(*[]byte))[:0]}
}

func (o *buffer) flush() error {
	_, err := o.w.Write(o.b)
	o.b = o.b[:0]
	return err
}

// flushLarge flushes once enough has come together.
func (o *buffer) flushLarge() error {
	if len(o.b) < flushAt {
		return nil
	}
	return o.flush()
}

// close flushes and gives the memory back.
func (o *buffer) close() error {
	err := o.flush()
	if b := o.b; cap(b) <= keepBelow {
		buffers.Put(&b)
	}
	o.b = nil
	return err
}

// Escapers of the text formats.
var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// appendEscaped appends a label value. Nearly none has anything to escape.
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c == '\\' || c == '\n' || c == '"' {
			return append(b, escapeValue.Replace(s)...)
		}
	}
	return append(b, s...)
}

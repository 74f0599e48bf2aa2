package exporter

import (
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// textEncoder writes the Prometheus text format 0.0.4, or OpenMetrics 1.0 with
// _created series.
type textEncoder struct {
	buffer
	openMetrics bool

	// Scratch, reused from sample to sample.
	labels []byte   // of the sample, rendered, without braces
	bounds []string // of the classic buckets of the family
	counts []uint64
}

func newTextEncoder(w io.Writer, openMetrics bool) *textEncoder {
	return &textEncoder{buffer: newBuffer(w), openMetrics: openMetrics}
}

func (t *textEncoder) close() error {
	if t.openMetrics {
		t.b = append(t.b, "# EOF\n"...)
	}
	return t.buffer.close()
}

func (t *textEncoder) encode(f *family) error {
	if f.message != nil {
		return t.message(f.message)
	}
	d := f.declared
	base := d.Name // the name in comments and of _created
	if t.openMetrics && d.Type == metric.TypeCounter {
		base = strings.TrimSuffix(base, "_total")
	}
	t.header(d, base)
	if d.Type == metric.TypeHistogram {
		t.bounds = t.bounds[:0]
		for i := range d.Grid.Len() {
			t.bounds = append(t.bounds, string(t.appendFloat(nil, math.Ldexp(1, d.Grid.Exponent(i)))))
		}
	}
	for _, s := range f.series {
		t.render(d, s)
		if h, ok := s.Histogram(); ok {
			t.histogram(d, h)
		} else {
			t.sample(d.Name, "")
			t.b = append(t.appendFloat(t.b, s.Value()), '\n')
		}
		if t.openMetrics && d.Type != metric.TypeGauge && !s.Created().IsZero() {
			t.sample(base, "_created")
			t.b = append(t.appendTime(t.b, s.Created()), '\n')
		}
		if err := t.flushLarge(); err != nil {
			return err
		}
	}
	return nil
}

// message writes a family that comes as a message.
func (t *textEncoder) message(m *dto.MetricFamily) (err error) {
	if err = t.flush(); err != nil {
		return err
	}
	if t.openMetrics {
		_, err = expfmt.MetricFamilyToOpenMetrics(t.w, m, expfmt.WithCreatedLines())
	} else {
		_, err = expfmt.MetricFamilyToText(t.w, m)
	}
	return err
}

func (t *textEncoder) header(d *metric.Family, base string) {
	escape := escapeHelp
	if t.openMetrics {
		escape = escapeValue
	}
	t.comment("# HELP ", base, escape.Replace(d.Help))
	t.comment("# TYPE ", base, d.Type.String())
	if t.openMetrics && d.Unit != "" {
		t.comment("# UNIT ", base, d.Unit)
	}
}

func (t *textEncoder) comment(keyword, name, text string) {
	t.b = append(t.b, keyword...)
	t.b = append(t.b, name...)
	t.b = append(t.b, ' ')
	t.b = append(t.b, text...)
	t.b = append(t.b, '\n')
}

// render renders the labels of a sample once for all of its lines.
func (t *textEncoder) render(d *metric.Family, s *metric.Series) {
	names := d.LabelNames()
	t.labels = t.labels[:0]
	for i, v := range s.LabelValues() {
		if i > 0 {
			t.labels = append(t.labels, ',')
		}
		t.labels = append(t.labels, names[i]...)
		t.labels = append(t.labels, `="`...)
		t.labels = append(appendEscaped(t.labels, v), '"')
	}
}

// sample begins a line: name, labels and the space before the value.
func (t *textEncoder) sample(name, suffix string) {
	t.b = append(t.b, name...)
	t.b = append(t.b, suffix...)
	if len(t.labels) > 0 {
		t.b = append(t.b, '{')
		t.b = append(t.b, t.labels...)
		t.b = append(t.b, '}')
	}
	t.b = append(t.b, ' ')
}

func (t *textEncoder) histogram(d *metric.Family, h metric.HistogramView) {
	exemplar := -1
	if t.openMetrics && h.Exemplar != nil {
		exemplar = h.ExemplarBucket()
	}
	t.counts = h.Classic(t.counts[:0])
	for i, c := range t.counts {
		t.bucket(d.Name, t.bounds[i], c)
		if i == exemplar {
			t.exemplar(h.Exemplar)
		}
		t.b = append(t.b, '\n')
	}
	t.bucket(d.Name, "+Inf", h.Count)
	if exemplar == len(t.counts) {
		t.exemplar(h.Exemplar)
	}
	t.b = append(t.b, '\n')
	t.sample(d.Name, "_sum")
	t.b = append(t.appendFloat(t.b, h.Sum), '\n')
	t.sample(d.Name, "_count")
	t.b = append(t.appendCount(t.b, h.Count), '\n')
}

// bucket writes the line of one classic bucket without its end.
func (t *textEncoder) bucket(name, bound string, count uint64) {
	t.b = append(t.b, name...)
	t.b = append(t.b, "_bucket{"...)
	if len(t.labels) > 0 {
		t.b = append(t.b, t.labels...)
		t.b = append(t.b, ',')
	}
	t.b = append(t.b, `le="`...)
	t.b = append(t.b, bound...)
	t.b = append(t.b, `"} `...)
	t.b = t.appendCount(t.b, count)
}

func (t *textEncoder) exemplar(e *metric.Exemplar) {
	t.b = append(t.b, ` # {`...)
	t.b = append(t.b, e.Label...)
	t.b = append(t.b, `="`...)
	t.b = appendEscaped(t.b, e.ID)
	t.b = append(t.b, `"} `...)
	t.b = t.appendFloat(t.b, e.Value)
	t.b = append(t.b, ' ')
	t.b = t.appendTime(t.b, e.Time)
}

// appendCount appends a number of observations: an integer in OpenMetrics, a float
// in the older format.
func (t *textEncoder) appendCount(b []byte, n uint64) []byte {
	if t.openMetrics {
		return strconv.AppendUint(b, n, 10)
	}
	return t.appendFloat(b, float64(n))
}

// appendTime appends a time in seconds of the epoch.
func (t *textEncoder) appendTime(b []byte, at time.Time) []byte {
	return t.appendFloat(b, float64(at.UnixNano())/1e9)
}

// smallInteger bounds the integers that the shortest float form writes without an
// exponent.
const smallInteger = 1_000_000

// appendFloat appends the shortest form. In OpenMetrics it is told from an integer.
func (t *textEncoder) appendFloat(b []byte, v float64) []byte {
	start := len(b)
	switch {
	case v > -smallInteger && v < smallInteger && v == float64(int64(v)):
		if b = strconv.AppendInt(b, int64(v), 10); t.openMetrics {
			b = append(b, ".0"...)
		}
		return b
	case math.IsNaN(v):
		return append(b, "NaN"...)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	}
	b = strconv.AppendFloat(b, v, 'g', -1, 64)
	if t.openMetrics {
		for _, c := range b[start:] {
			if c == 'e' || c == '.' {
				return b
			}
		}
		b = append(b, ".0"...)
	}
	return b
}

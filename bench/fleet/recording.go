// Package fleet pretends to be many nodes: it answers scrapes with what a real sensor
// said, moved on in time and told apart by node, so that what a Prometheus takes for
// thousands of nodes can be measured on one machine.
package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// Recording is what one sensor said at two moments. It does not change once it is made.
type Recording struct {
	families []*dto.MetricFamily // of the second moment, as they came
	grown    map[*dto.Metric]float64
	span     time.Duration // between the two

	Series, Histograms int // of one scrape; Histograms are native ones, among the series
	Bytes, Packed      int // of one scrape, without and with gzip
}

// protobuf is what a Prometheus asks for that wants native histograms.
var protobuf = expfmt.NewFormat(expfmt.TypeProtoDelim)

// Record scrapes a sensor twice, span apart.
func Record(ctx context.Context, url string, span time.Duration) (*Recording, error) {
	before, _, err := scrape(ctx, url, "identity")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", url, err)
	}
	select {
	case <-time.After(span):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, size, err := scrape(ctx, url, "identity")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", url, err)
	}
	_, packed, err := scrape(ctx, url, "gzip")
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", url, err)
	}
	r := &Recording{families: after, grown: growth(before, after), span: span, Bytes: size, Packed: packed}
	for _, f := range after {
		r.Series += len(f.Metric)
		for _, m := range f.Metric {
			if m.Histogram != nil {
				r.Histograms++
			}
		}
	}
	return r, nil
}

// scrape returns what a sensor says, and how many bytes that took.
func scrape(ctx context.Context, url, encoding string) (all []*dto.MetricFamily, size int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Accept", string(protobuf))
	r.Header.Set("Accept-Encoding", encoding)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || encoding != "identity" {
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return nil, len(body), err
	}
	d := expfmt.NewDecoder(bytes.NewReader(body), expfmt.ResponseFormat(answer.Header))
	for {
		f := &dto.MetricFamily{}
		switch err := d.Decode(f); {
		case errors.Is(err, io.EOF):
			return all, len(body), nil
		case err != nil:
			return nil, 0, fmt.Errorf("decode: %w", err)
		}
		all = append(all, f)
	}
}

// growth tells of each counter and histogram how much it grew; those that stood still are
// not in it.
func growth(before, after []*dto.MetricFamily) map[*dto.Metric]float64 {
	was := map[string]float64{}
	for _, f := range before {
		for _, m := range f.Metric {
			was[identity(f, m)] = count(m)
		}
	}
	grown := map[*dto.Metric]float64{}
	for _, f := range after {
		for _, m := range f.Metric {
			if n := count(m) - was[identity(f, m)]; n > 0 {
				grown[m] = n
			}
		}
	}
	return grown
}

func identity(f *dto.MetricFamily, m *dto.Metric) string {
	parts := []string{f.GetName()}
	for _, l := range m.Label {
		parts = append(parts, l.GetName(), l.GetValue())
	}
	return strings.Join(parts, "\x00")
}

// count is what of a series can only grow.
func count(m *dto.Metric) float64 {
	if m.Histogram != nil {
		return float64(m.Histogram.GetSampleCount())
	}
	return m.GetCounter().GetValue()
}

// At writes what a node says when so much time has passed since the recording. Counters
// go on growing as they did, a little faster on one node than on the other, and those that
// stood still do not move: a store takes more for series that move.
func (r *Recording) At(w io.Writer, node int, passed time.Duration) error {
	e := expfmt.NewEncoder(w, protobuf)
	periods := passed.Seconds() / r.span.Seconds() * (0.5 + float64(node%100)/100)
	for _, f := range r.families {
		moved := &dto.MetricFamily{Name: f.Name, Help: f.Help, Type: f.Type, Unit: f.Unit, Metric: make([]*dto.Metric, len(f.Metric))}
		for i, m := range f.Metric {
			if n, grows := r.grown[m]; grows {
				m = move(m, n, periods)
			}
			moved.Metric[i] = m
		}
		if err := e.Encode(moved); err != nil {
			return err
		}
	}
	return nil
}

// move returns a series after some periods in each of which it grows by n. All buckets of
// a histogram grow together: where values fall does not change.
func move(m *dto.Metric, n, periods float64) *dto.Metric {
	m = proto.Clone(m).(*dto.Metric)
	if m.Counter != nil {
		m.Counter.Value = proto.Float64(m.Counter.GetValue() + n*periods)
		return m
	}
	h := m.Histogram
	times := uint64(1 + periods)
	h.SampleCount = proto.Uint64(h.GetSampleCount() * times)
	h.SampleSum = proto.Float64(h.GetSampleSum() * float64(times))
	h.ZeroCount = proto.Uint64(h.GetZeroCount() * times)
	for _, b := range h.Bucket {
		b.CumulativeCount = proto.Uint64(b.GetCumulativeCount() * times)
	}
	for i := range h.PositiveDelta {
		h.PositiveDelta[i] *= int64(times)
	}
	for i := range h.NegativeDelta {
		h.NegativeDelta[i] *= int64(times)
	}
	return m
}

package metric

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Write fills m, as prometheus.Metric wants it: for a histogram with the classic
// and the native buckets at once. It is the general way out; the exporter's
// encoders give the same result without the intermediate message.
func (s *Series) Write(m *dto.Metric) error {
	if err := s.Err(); err != nil {
		return err
	}
	for i, v := range s.LabelValues() {
		m.Label = append(m.Label, &dto.LabelPair{Name: &s.family.sorted[i], Value: proto.String(v)})
	}
	var created *timestamppb.Timestamp
	if !s.created.IsZero() {
		created = timestamppb.New(s.created)
	}
	switch s.family.Type {
	case TypeCounter:
		m.Counter = &dto.Counter{Value: proto.Float64(s.value), CreatedTimestamp: created}
	case TypeGauge:
		m.Gauge = &dto.Gauge{Value: proto.Float64(s.value)}
	case TypeHistogram:
		v, _ := s.Histogram()
		m.Histogram = v.dto()
		m.Histogram.CreatedTimestamp = created
	}
	return nil
}

func (v HistogramView) dto() *dto.Histogram {
	h := &dto.Histogram{
		SampleCount:   proto.Uint64(v.Count),
		SampleSum:     proto.Float64(v.Sum),
		Schema:        proto.Int32(Schema),
		ZeroThreshold: proto.Float64(zeroThreshold),
		ZeroCount:     proto.Uint64(v.ZeroCount),
	}
	for i, c := range v.Classic(nil) {
		h.Bucket = append(h.Bucket, &dto.Bucket{
			CumulativeCount: proto.Uint64(c),
			UpperBound:      proto.Float64(math.Ldexp(1, v.grid.Exponent(i))),
		})
	}
	spans, deltas := v.Native(nil, nil)
	for _, s := range spans {
		h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)})
	}
	h.PositiveDelta = deltas
	if v.Exemplar != nil {
		v.addExemplar(h)
	}
	return h
}

// addExemplar hangs the exemplar on its classic bucket and on the native list. One
// above the last bound needs a +Inf bucket of its own, which is otherwise implied.
func (v HistogramView) addExemplar(h *dto.Histogram) {
	e := &dto.Exemplar{
		Label:     []*dto.LabelPair{{Name: proto.String(v.Exemplar.Label), Value: proto.String(v.Exemplar.ID)}},
		Value:     proto.Float64(v.Exemplar.Value),
		Timestamp: timestamppb.New(v.Exemplar.Time),
	}
	at := v.ExemplarBucket()
	if at == v.grid.Len() {
		h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: proto.Uint64(v.Count), UpperBound: proto.Float64(math.Inf(1))})
	}
	h.Bucket[at].Exemplar = e
	h.Exemplars = []*dto.Exemplar{e}
}

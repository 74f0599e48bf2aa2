package exporter

import (
	"io"
	"math"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// protoEncoder writes length-delimited io.prometheus.client.MetricFamily messages,
// the only format that carries native histograms.
type protoEncoder struct {
	buffer
	foreign expfmt.Encoder
	*protoScratch
}

// protoScratch is memory that is reused from sample to sample and scrape to scrape. A
// length comes before its message, so messages are rendered apart, inside out.
type protoScratch struct {
	family, sample, body, part []byte
	counts                     []uint64
	spans                      []metric.Span
	deltas                     []int64
}

var protoScratches = sync.Pool{New: func() any { return new(protoScratch) }}

// keepFamilyBelow is the size in bytes above which a family's memory is not kept.
const keepFamilyBelow = 1 << 20

// Field numbers of io.prometheus.client, by message.
const (
	familyName, familyHelp, familyType, familyMetric, familyUnit = 1, 2, 3, 4, 5

	metricLabel, metricGauge, metricCounter, metricHistogram = 1, 2, 3, 7

	labelName, labelValue = 1, 2

	numberValue, counterCreated = 1, 3

	histCount, histSum, histBucket, histSchema, histZeroThreshold, histZeroCount = 1, 2, 3, 5, 6, 7
	histSpan, histDelta, histCreated, histExemplars                              = 12, 13, 15, 16

	bucketCount, bucketBound, bucketExemplar = 1, 2, 3

	spanOffset, spanLength = 1, 2

	exemplarLabel, exemplarValue, exemplarTime = 1, 2, 3

	timeSeconds, timeNanos = 1, 2
)

func newProtoEncoder(w io.Writer, format expfmt.Format) *protoEncoder {
	return &protoEncoder{
		buffer:       newBuffer(w),
		foreign:      expfmt.NewEncoder(w, format),
		protoScratch: protoScratches.Get().(*protoScratch),
	}
}

func (p *protoEncoder) close() error {
	if cap(p.family) > keepFamilyBelow {
		p.family = nil
	}
	protoScratches.Put(p.protoScratch)
	p.protoScratch = nil
	return p.buffer.close()
}

func (p *protoEncoder) encode(f *family) error {
	if f.message != nil {
		if err := p.flush(); err != nil {
			return err
		}
		return p.foreign.Encode(f.message)
	}
	d := f.declared
	b := p.family[:0]
	b = appendString(b, familyName, d.Name)
	b = appendString(b, familyHelp, d.Help)
	b = appendVarint(b, familyType, uint64(d.Type.DTO()))
	for _, s := range f.series {
		p.writeSample(d, s)
		b = appendBytes(b, familyMetric, p.sample)
	}
	if d.Unit != "" {
		b = appendString(b, familyUnit, d.Unit)
	}
	p.family = b
	p.b = protowire.AppendVarint(p.b, uint64(len(b)))
	if len(b) > flushAt { // not worth copying
		if err := p.flush(); err != nil {
			return err
		}
		_, err := p.w.Write(b)
		return err
	}
	p.b = append(p.b, b...)
	return p.flushLarge()
}

// writeSample renders one Metric message into p.sample.
func (p *protoEncoder) writeSample(d *metric.Family, s *metric.Series) {
	b := p.sample[:0]
	names := d.LabelNames()
	for i, v := range s.LabelValues() {
		b = appendLabel(b, metricLabel, names[i], v)
	}
	switch d.Type {
	case metric.TypeGauge:
		p.body = appendDouble(p.body[:0], numberValue, s.Value())
		b = appendBytes(b, metricGauge, p.body)
	case metric.TypeCounter:
		p.body = appendDouble(p.body[:0], numberValue, s.Value())
		p.body = appendTime(p.body, counterCreated, s.Created())
		b = appendBytes(b, metricCounter, p.body)
	case metric.TypeHistogram:
		h, _ := s.Histogram()
		p.histogram(d, h, s.Created())
		b = appendBytes(b, metricHistogram, p.body)
	}
	p.sample = b
}

// histogram renders one Histogram message into p.body: classic buckets first, then
// the native ones, as the field numbers order them.
func (p *protoEncoder) histogram(d *metric.Family, h metric.HistogramView, created time.Time) {
	b := p.body[:0]
	b = appendVarint(b, histCount, h.Count)
	b = appendDouble(b, histSum, h.Sum)

	exemplar := -1
	if h.Exemplar != nil {
		exemplar = h.ExemplarBucket()
	}
	p.counts = h.Classic(p.counts[:0])
	for i, c := range p.counts {
		b = p.bucket(b, c, math.Ldexp(1, d.Grid.Exponent(i)), h.Exemplar, i == exemplar)
	}
	if exemplar == len(p.counts) { // only an exemplar makes the bucket +Inf explicit
		b = p.bucket(b, h.Count, math.Inf(1), h.Exemplar, true)
	}

	b = appendVarint(b, histSchema, protowire.EncodeZigZag(metric.Schema))
	b = appendDouble(b, histZeroThreshold, h.ZeroThreshold())
	b = appendVarint(b, histZeroCount, h.ZeroCount)
	p.spans, p.deltas = h.Native(p.spans[:0], p.deltas[:0])
	for _, s := range p.spans {
		part := appendVarint(p.part[:0], spanOffset, protowire.EncodeZigZag(int64(s.Offset)))
		p.part = appendVarint(part, spanLength, uint64(s.Length))
		b = appendBytes(b, histSpan, p.part)
	}
	for _, delta := range p.deltas {
		b = appendVarint(b, histDelta, protowire.EncodeZigZag(delta))
	}
	b = appendTime(b, histCreated, created)
	if h.Exemplar != nil {
		b = appendBytes(b, histExemplars, exemplarMessage(h.Exemplar))
	}
	p.body = b
}

func (p *protoEncoder) bucket(b []byte, count uint64, bound float64, e *metric.Exemplar, has bool) []byte {
	part := appendVarint(p.part[:0], bucketCount, count)
	part = appendDouble(part, bucketBound, bound)
	if has {
		part = appendBytes(part, bucketExemplar, exemplarMessage(e))
	}
	p.part = part
	return appendBytes(b, histBucket, part)
}

// exemplarMessage allocates: exemplars are few.
func exemplarMessage(e *metric.Exemplar) []byte {
	b := appendLabel(nil, exemplarLabel, e.Label, e.ID)
	b = appendDouble(b, exemplarValue, e.Value)
	return appendTime(b, exemplarTime, e.Time)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// appendLabel appends a LabelPair, whose size is known before it is written.
func appendLabel(b []byte, field protowire.Number, name, value string) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	size := 2 + protowire.SizeBytes(len(name)) + protowire.SizeBytes(len(value))
	b = protowire.AppendVarint(b, uint64(size))
	return appendString(appendString(b, labelName, name), labelValue, value)
}

// appendTime appends a google.protobuf.Timestamp, nothing for the zero time.
func appendTime(b []byte, field protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	var message [2 * 11]byte
	part := message[:0]
	if s := t.Unix(); s != 0 {
		part = appendVarint(part, timeSeconds, uint64(s))
	}
	if ns := t.Nanosecond(); ns != 0 {
		part = appendVarint(part, timeNanos, uint64(ns))
	}
	return appendBytes(b, field, part)
}

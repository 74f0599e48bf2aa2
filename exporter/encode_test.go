package exporter

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// randomFamilies returns families with samples of every kind that an encoder may
// meet: special values, escapes, empty and sparse histograms, exemplars everywhere.
func randomFamilies(t *testing.T) []family {
	t.Helper()
	random := rand.New(rand.NewPCG(5, 6))
	set := metric.NewSet()
	label := metric.Bounded("z_name", "x")
	kind := metric.Enum("a_kind", "k")
	var (
		counter = set.Counter("random_total", `Help with "quotes", \ and`+"\nline.", label, kind)
		bare    = set.Counter("random_seconds_total", "Without labels.")
		gauge   = set.Gauge("random_bytes", "Gauge.", label)
		plain   = set.Histogram("random_depth", "Without labels and unit.", metric.Counts(0, 6))
		hist    = set.Histogram("random_seconds", "Histogram.", metric.Seconds(-20, 4), label, kind)
	)
	values := []float64{
		0, math.Copysign(0, -1), 1, -1, 0.1, 42, -17, 999_999, 1_000_000, -1_000_000, 123_456_789, 1 << 53, 1e21, 1e-7, 0.0001, 0.00001,
		math.Pi, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), 1e18, 1 << 62,
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	metrics := []prometheus.Metric{bare.WithCreated(12.5, time.Unix(1_700_000_000, 0))}
	for i, v := range values {
		name := fmt.Sprintf("v%02d \\ \" \n ü", i)
		metrics = append(metrics, counter.WithCreated(v, at, name, "k"), counter.With(v, name, "other"), gauge.With(v, name))
	}
	for i := range 200 {
		b := metric.Buckets{First: random.Int32N(200) - 120, Sum: random.NormFloat64(), Zero: random.Uint64N(2) * random.Uint64N(1000)}
		for range random.IntN(40) {
			b.Counts = append(b.Counts, random.Uint64N(2)*random.Uint64N(1<<random.Uint64N(50)))
		}
		if i%2 == 0 {
			b.Created = at.Add(time.Duration(random.Int64N(1e18)))
		}
		if i%3 == 0 {
			b.Exemplar = &metric.Exemplar{Label: "exec_id", ID: "a\"b\\c\nd", Value: math.Exp(random.NormFloat64() * 8), Time: at}
		}
		metrics = append(metrics, hist.With(b, fmt.Sprint(i), "k"))
		if i == 0 {
			metrics = append(metrics, plain.With(b))
		}
	}
	families, err := group(metrics)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// TestEncodersEqualExpfmt holds our encoders to the very bytes of expfmt.
func TestEncodersEqualExpfmt(t *testing.T) {
	families := randomFamilies(t)
	formats := map[string]expfmt.Format{
		"text":              expfmt.FmtText,
		"openmetrics":       expfmt.FmtOpenMetrics_1_0_0,
		"protobuf":          expfmt.FmtProtoDelim,
		"openmetrics 0.0.1": expfmt.FmtOpenMetrics_0_0_1,
	}
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			var want bytes.Buffer
			reference := expfmt.NewEncoder(&want, format, expfmt.WithCreatedLines()) // OpenMetrics alone has them
			for i := range families {
				m, err := families[i].toMessage()
				if err != nil {
					t.Fatal(err)
				}
				if err := reference.Encode(m); err != nil {
					t.Fatal(err)
				}
			}
			if err := reference.(expfmt.Closer).Close(); err != nil {
				t.Fatal(err)
			}

			var got bytes.Buffer
			if err := encode(newEncoder(&got, format), families); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want.Bytes(), got.Bytes()) {
				t.Errorf("differs from expfmt:\n%s", firstDifference(want.String(), got.String()))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n-%q\n+%q", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines against %d", len(w), len(g))
}

// TestProtobufRoundTrip decodes what a scraper gets and wants the native buckets,
// spelled out here and not by our own code.
func TestProtobufRoundTrip(t *testing.T) {
	w := get(t, newFake(t, Options{}, nil), "/metrics", "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	dec := expfmt.NewDecoder(w.Body, expfmt.Format(w.Header().Get("Content-Type")))
	var got *dto.Histogram
	for {
		var m dto.MetricFamily
		if err := dec.Decode(&m); err != nil {
			break
		}
		if m.GetName() == "sonde_fake_duration_seconds" {
			got = m.Metric[1].Histogram
		}
	}
	if got == nil {
		t.Fatal("no histogram")
	}
	got.Bucket, got.Exemplars, got.CreatedTimestamp = nil, nil, nil
	want := &dto.Histogram{
		SampleCount: proto.Uint64(55), SampleSum: proto.Float64(0.25), Schema: proto.Int32(2),
		ZeroThreshold: proto.Float64(0x1p-128), ZeroCount: proto.Uint64(2),
		PositiveSpan: []*dto.BucketSpan{
			{Offset: proto.Int32(-50), Length: proto.Uint32(3)},
			{Offset: proto.Int32(3), Length: proto.Uint32(2)},
			{Offset: proto.Int32(13), Length: proto.Uint32(1)},
		},
		PositiveDelta: []int64{1, -1, 2, 38, -37, 4},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("histogram (-want +got):\n%s", diff)
	}
}

package metric

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

func TestFamiliesIsTheCatalogue(t *testing.T) {
	s := NewSet()
	direction := Enum("direction", "inbound", "outbound")
	s.Histogram("b_seconds", "B.", Seconds(-20, 4), direction)
	s.Gauge("a_bytes", "A.")
	s.Counter("c_total", "C.", Bounded("syscall", "system call table"), direction)

	want := []Family{
		{Name: "sonde_a_bytes", Type: TypeGauge, Help: "A.", Unit: "bytes"},
		{Name: "sonde_b_seconds", Type: TypeHistogram, Help: "B.", Unit: "seconds", Labels: []Label{direction}, Grid: Seconds(-20, 4)},
		{Name: "sonde_c_total", Type: TypeCounter, Help: "C.", Labels: []Label{{Name: "syscall", Bound: "system call table"}, direction}},
	}
	got := s.Families()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Grid{}), cmpopts.IgnoreUnexported(Family{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("catalogue (-want +got):\n%s", diff)
	}
	if direction.Bound != "inbound, outbound" {
		t.Errorf("bound of an enumeration: %q", direction.Bound)
	}
}

func TestDeclareRefuses(t *testing.T) {
	cases := map[string]func(*Set){
		"suffix _total":               func(s *Set) { s.Counter("calls", "H.") },
		"for counters":                func(s *Set) { s.Gauge("calls_total", "H.") },
		"no help":                     func(s *Set) { s.Gauge("calls", "") },
		"invalid name":                func(s *Set) { s.Gauge("calls-now", "H.") },
		"added centrally":             func(s *Set) { s.Gauge("sonde_calls", "H.") },
		"reserved suffix _count":      func(s *Set) { s.Gauge("calls_count", "H.") },
		`label "le": invalid`:         func(s *Set) { s.Gauge("calls", "H.", Bounded("le", "x")) },
		`label "a": no bound`:         func(s *Set) { s.Gauge("calls", "H.", Bounded("a", "")) },
		`label "a": declared twice`:   func(s *Set) { s.Gauge("calls", "H.", Bounded("a", "x"), Bounded("a", "x")) },
		"at most 5":                   func(s *Set) { s.Gauge("calls", "H.", make([]Label, 6)...) },
		"the grid counts \"bytes\"":   func(s *Set) { s.Histogram("x_seconds", "H.", Bytes(0, 4)) },
		"ascending range":             func(s *Set) { s.Histogram("x_seconds", "H.", Seconds(4, 0)) },
		"sonde_calls: declared twice": func(s *Set) { s.Gauge("calls", "H."); s.Gauge("calls", "H.") },
	}
	for want, declare := range cases {
		t.Run(want, func(t *testing.T) {
			defer func() {
				err, _ := recover().(error)
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("declaration answered %v, want %q", err, want)
				}
			}()
			declare(NewSet())
		})
	}
}

func TestWithSortsLabels(t *testing.T) {
	created := time.Unix(1700000000, 0)
	c := NewSet().Counter("x_total", "H.", Bounded("z", "x"), Bounded("a", "x"), Bounded("m", "x"))
	var got dto.Metric
	if err := c.WithCreated(3, created, "vz", "va", "vm").Write(&got); err != nil {
		t.Fatal(err)
	}
	var want dto.Metric
	reference := prometheus.MustNewConstMetricWithCreatedTimestamp(
		prometheus.NewDesc("sonde_x_total", "H.", []string{"z", "a", "m"}, nil), prometheus.CounterValue, 3, created, "vz", "va", "vm")
	if err := reference.Write(&want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&want, &got) {
		t.Errorf("differs from client_golang:\n%s", cmp.Diff(&want, &got, protocmp.Transform()))
	}
}

func TestMalformedSampleCarriesItsError(t *testing.T) {
	s := NewSet()
	g := s.Gauge("x", "H.", Enum("way", "in", "out"))
	h := s.Histogram("y_seconds", "H.", Seconds(-20, 4))
	cases := []struct {
		sample prometheus.Metric
		want   error
	}{
		{g.With(1), ErrLabelCount},
		{g.With(1, "in", "out"), ErrLabelCount},
		{g.With(1, "a", "b", "c", "d", "e", "f"), ErrLabelCount},
		{g.With(1, "\xff"), ErrLabelUTF8},
		{h.With(Buckets{First: -512, Counts: []uint64{1}}), ErrBuckets},
		{h.With(Buckets{First: 512, Counts: []uint64{1}}), ErrBuckets},
		{g.With(1, "in"), nil},
		{h.With(Buckets{First: -512, Counts: []uint64{0}}), nil},
	}
	for _, c := range cases {
		if err := c.sample.Write(&dto.Metric{}); !errors.Is(err, c.want) {
			t.Errorf("%v: error %v, want %v", c.sample.Desc(), err, c.want)
		}
	}
	if err := Verify([]prometheus.Metric{g.With(1, "sideways")}); !errors.Is(err, ErrLabelValue) {
		t.Errorf("Verify of a value outside of its enumeration: %v", err)
	}
	if err := Verify([]prometheus.Metric{g.With(1, "in"), g.With(1, Other)}); err != nil {
		t.Errorf("Verify of good samples: %v", err)
	}
}

func TestExemplar(t *testing.T) {
	h := NewSet().Histogram("y_seconds", "H.", Seconds(-2, 2))
	at := time.Unix(1700000000, 0)
	cases := []struct {
		value  float64
		bucket int
		bound  string
	}{{0.01, 0, "0.25"}, {0.25, 0, "0.25"}, {0.26, 1, "0.5"}, {4, 4, "4"}, {4.1, 5, "+Inf"}}
	for _, c := range cases {
		b := Buckets{First: Index(c.value), Counts: []uint64{7}, Exemplar: &Exemplar{Label: "exec_id", ID: "x", Value: c.value, Time: at}}
		var m dto.Metric
		if err := h.With(b).Write(&m); err != nil {
			t.Fatal(err)
		}
		for i, bucket := range m.Histogram.Bucket {
			if has := bucket.Exemplar != nil; has != (i == c.bucket) {
				t.Errorf("exemplar of %v: bucket %d (le=%v) has one: %v", c.value, i, bucket.GetUpperBound(), has)
			}
		}
		if n := len(m.Histogram.Exemplars); n != 1 {
			t.Errorf("%d native exemplars, want 1", n)
		}
	}
	for _, e := range []*Exemplar{
		{Label: "exec_id", ID: strings.Repeat("x", 122), Value: 1, Time: at},
		{Label: "exec_id", ID: "x", Value: 1},
		{Label: "exec_id", ID: "\xff", Value: 1, Time: at},
	} {
		if e.usable() {
			t.Errorf("exemplar %+v is exposed", e)
		}
	}
}

func TestWithCopiesBuckets(t *testing.T) {
	h := NewSet().Histogram("y_seconds", "H.", Seconds(-2, 2))
	counts := []uint64{1, 2, 3}
	m := h.With(Buckets{Counts: counts})
	counts[1] = 100
	v, _ := m.(*Series).Histogram()
	if spans, deltas := v.Native(nil, nil); !cmp.Equal(deltas, []int64{1, 1, 1}) {
		t.Errorf("the sample follows its source: spans %v deltas %v", spans, deltas)
	}
}

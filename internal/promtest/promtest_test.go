package promtest

import (
	"slices"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// declared is a small catalogue, scraped, with one recording rule.
func declared(t *testing.T) *Catalogue {
	t.Helper()
	set := metric.NewSet()
	set.Counter("a_total", "H.", metric.Enum("way", "in", "out"))
	set.Gauge("b", "H.", metric.Bounded("ring", "rings"))
	set.Histogram("c_seconds", "H.", metric.Seconds(-20, 4))
	c := New(set.Families(), true)
	c.AddServers()
	if err := c.AddRecorded("instance:c:quantile", "histogram_quantile(0.9, sum by (instance) (rate(sonde_c_seconds[5m])))", map[string]string{"quantile": "0.9"}); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckNotices(t *testing.T) {
	c := declared(t)
	for name, expr := range map[string]string{
		"malformed":           `sum(sonde_b`,
		"no metric":           `sonde_no_such`,
		"count of native":     `sonde_c_seconds_count`,
		"no label":            `sonde_b{way="in"}`,
		"no value":            `sonde_a_total{way="up"}`,
		"no grouping label":   `sum by (ring) (sonde_a_total)`,
		"aggregated away":     `sum by (ring) (sum by (instance) (sonde_b))`,
		"not on both sides":   `sonde_b / on (ring) up`,
		"ignored for nothing": `sonde_b / ignoring (way) up`,
		"not a histogram":     `histogram_sum(sonde_b)`,
		"sum of classic":      `histogram_sum(sonde_c_seconds_bucket)`,
		"rate of a gauge":     `rate(sonde_b[5m])`,
		"no recorded value":   `instance:c:quantile{quantile="0.5"}`,
		"label not recorded":  `instance:c:quantile{job="sonde"}`,
	} {
		if _, err := c.Check(expr); err == nil {
			t.Errorf("%s: %s is not noticed", name, expr)
		}
	}
	if err := c.AddRecorded("x", "sonde_no_such", nil); err == nil {
		t.Error("a recording rule of what does not exist is not noticed")
	}
}

func TestCheckReturnsLabels(t *testing.T) {
	c := declared(t)
	for expr, want := range map[string][]string{
		`sum by (way) (rate(sonde_a_total[5m]))`:                                         {"way"},
		`sum without (ring) (sonde_b)`:                                                   {"cluster", "instance", "job", "node"},
		`topk(3, sum by (ring) (sonde_b))`:                                               {"ring"},
		`sonde_b / on (instance) group_left () sum by (instance) (up) > 0`:               {"cluster", "instance", "job", "node", "ring"},
		`sum by (instance, ring) (sonde_b) and on (instance) up`:                         {"instance", "ring"},
		`sum by (le) (rate(sonde_c_seconds_bucket[5m])) or sum by (way) (sonde_a_total)`: {"le", "way"},
		`histogram_quantile(0.5, sum by (le) (rate(sonde_c_seconds_bucket[5m])))`:        nil,
		`label_replace(sum by (ring) (sonde_b), "x", "$1", "ring", "(.*)")`:              {"ring", "x"},
		`instance:c:quantile{quantile="0.9"}`:                                            {"instance", "quantile"},
		`1 - sum by (ring) (sonde_b)`:                                                    {"ring"},
		`vector(1)`:                                                                      nil,
	} {
		if got, err := c.Check(expr); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: labels %v, %v; want %v", expr, got, err, want)
		}
	}
}

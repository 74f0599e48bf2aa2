package collectors

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var seriesLimited = declared.Counter("series_limited_total",
	`Label sets that were refused a series of their own because the bound of their family was reached. What they count is in the series "other".`,
	metric.Bounded("family", "the families that have a budget"))

// Limits bound the families whose labels come from what is observed.
type Limits struct {
	Series int           // of one family
	Idle   time.Duration // after which a series gives up its place to another that wants it
}

// bound is the budget of a family, and what was folded before it came to us.
type bound struct {
	*metric.Budget
	families []string
	inKernel uint64 // label sets that the kernel side has folded
}

// bound makes the budget of a family. Others may be bounded by the same one. created
// is when the source began to count.
func (l Limits) bound(created time.Time, d metric.Declaration, others ...metric.Declaration) *bound {
	b := &bound{Budget: metric.NewBudget(d, l.Series, l.Idle, created), families: []string{d.Family().Name}}
	for _, o := range others {
		b.families = append(b.families, o.Family().Name)
	}
	return b
}

// limited appends how often the budget was not enough, once a round has ended.
func (b *bound) limited(all []prometheus.Metric) []prometheus.Metric {
	for _, family := range b.families {
		all = append(all, seriesLimited.With(float64(b.Folded()+b.inKernel), family))
	}
	return all
}

package compare

import "fmt"

// Resource is something that a run takes, and the difference that matters.
type Resource struct {
	Name string
	Unit string
	// Scale turns the recorded value into the unit.
	Scale float64
	// Floor is the difference, in the unit, that is not spoken of, and Share one
	// relative to the base; the larger one counts.
	Floor, Share float64
	of           func(Run) (float64, bool)
}

// Resources are compared, with thresholds that are declared here and nowhere else.
var Resources = []Resource{
	{Name: "processor", Unit: "% of a core", Scale: 1, Floor: 1, of: ofAgent(func(c *Cost) float64 { return c.CPU })},
	{Name: "resident memory", Unit: "MiB", Scale: 1. / (1 << 20), Floor: 10, of: ofAgent(func(c *Cost) float64 { return c.RSS })},
	{Name: "peak memory", Unit: "MiB", Scale: 1. / (1 << 20), Floor: 10, of: ofAgent(func(c *Cost) float64 { return c.Peak })},
	{Name: "events lost", Unit: "", Scale: 1, Floor: 0, of: ofAgent(func(c *Cost) float64 { return c.Dropped })},
	{Name: "time of an operation", Unit: "µs", Scale: 1e6, Share: 0.05, of: func(r Run) (float64, bool) { return r.Load.Median, r.Load.Done > 0 }},
}

func ofAgent(f func(*Cost) float64) func(Run) (float64, bool) {
	return func(r Run) (float64, bool) {
		if r.Agent == nil {
			return 0, false
		}
		return f(r.Agent), true
	}
}

// threshold is the difference that matters, in the unit.
func (r Resource) threshold(base float64) float64 { return max(r.Floor, r.Share*base) }

func (r Resource) format(v float64) string {
	if r.Unit == "" {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f %s", v, r.Unit)
}

package compare

// Center returns the medians of a build's cost under a load, and how many operations there
// were a second; ok is false where no sensor ran.
func (r *Results) Center(build, workload string) (c Cost, rate float64, ok bool) {
	of := func(f func(Run) (float64, bool)) float64 {
		values := r.values(build, workload, f)
		if len(values) == 0 {
			return 0
		}
		ok = true
		return median(values)
	}
	c.CPU = of(ofAgent(func(c *Cost) float64 { return c.CPU }))
	c.RSS = of(ofAgent(func(c *Cost) float64 { return c.RSS }))
	c.Dropped = of(ofAgent(func(c *Cost) float64 { return c.Dropped }))
	rate = of(func(r Run) (float64, bool) { return float64(r.Load.Done) / r.Load.Seconds, r.Agent != nil })
	return c, rate, ok
}

// Kind returns the kind of the timed load of a workload.
func (r *Results) Kind(workload string) string {
	for _, run := range r.Runs {
		if run.Workload == workload {
			return run.Load.Kind
		}
	}
	return ""
}

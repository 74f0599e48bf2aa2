package report

import (
	"fmt"
	"maps"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/sonde-ebpf/sonde/bench/compare"
)

// plotScrapes draws the time of a scrape against the number of series.
func plotScrapes(path string, b Benchmarks) error {
	lines := map[string]plotter.XYs{}
	for _, impl := range implementations {
		for _, n := range b.sizes("ScrapeSize") {
			if ms := b.scrape(n, impl.name, "ms"); ms > 0 {
				lines[impl.title] = append(lines[impl.title], plotter.XY{X: float64(n), Y: ms})
			}
		}
	}
	return draw(path, "Time of a scrape", "series", "milliseconds", lines)
}

// plotRates draws the sensor's share of a core against the rate of each kind of load.
func plotRates(path string, r *compare.Results) error {
	lines := map[string]plotter.XYs{}
	for _, workload := range r.Workloads() {
		c, rate, ok := r.Center(compare.Head, workload)
		if kind := r.Kind(workload); ok && rate > 0 && c.CPU > 0 {
			lines[kind] = append(lines[kind], plotter.XY{X: rate, Y: c.CPU})
		}
	}
	for _, line := range lines {
		slices.SortFunc(line, func(a, b plotter.XY) int { return int(a.X - b.X) })
	}
	return draw(path, "Processor time of the sensor", "operations per second", "% of a core", lines)
}

// draw draws lines on logarithmic scales, with their values as points.
func draw(path, title, x, y string, lines map[string]plotter.XYs) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{}, plot.LogTicks{}
	p.Legend.Top, p.Legend.Left = true, true
	var all []any
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		all = append(all, name, lines[name])
	}
	if len(all) == 0 {
		return fmt.Errorf("plot %s: nothing to draw", path)
	}
	if err := plotutil.AddLinePoints(p, all...); err != nil {
		return fmt.Errorf("plot %s: %w", path, err)
	}
	if err := p.Save(16*vg.Centimeter, 10*vg.Centimeter, path); err != nil {
		return fmt.Errorf("plot %s: %w", path, err)
	}
	return nil
}

package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sonde-ebpf/sonde/bench/compare"
)

// The measured part of a page is between these lines; the rest is its author's.
const (
	begin = "<!-- measured: written by make bench-report -->"
	end   = "<!-- end of what is measured -->"
)

// Plots lie in this directory beside the page.
const plots = "images"

// Update replaces the measured part of the page at path, or appends one, by what the
// benchmarks and the runs say, and writes the plots beside it.
func Update(path string, b Benchmarks, r *compare.Results) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("update page: %w", err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, closed := strings.Cut(rest, end)
	switch {
	case !found:
		before, after = string(page)+"\n", "\n"
	case !closed:
		return fmt.Errorf("update page: %s has no line %q after %q", path, end, begin)
	}
	dir := filepath.Join(filepath.Dir(path), plots)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("update page: %w", err)
	}
	if err := errors.Join(plotScrapes(filepath.Join(dir, "scrape-time.svg"), b), plotRates(filepath.Join(dir, "processor-rate.svg"), r)); err != nil {
		return fmt.Errorf("update page: %w", err)
	}
	text := before + begin + "\n" + measured(b, r) + end + after
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("update page: %w", err)
	}
	return nil
}

func measured(b Benchmarks, r *compare.Results) string {
	var w strings.Builder
	fmt.Fprintf(&w, "\n## Measured by one command\n\n`make bench-report`, on %.10s: %d × %s, %.0f GiB, Linux %s.\n", r.Date, r.Machine.CPUs, r.Machine.Processor,
		float64(r.Machine.Memory)/(1<<30), r.Machine.Kernel)
	b.operations(&w)
	b.scrapes(&w)
	fmt.Fprintf(&w, "\n![Time of a scrape by number of series](%s/scrape-time.svg)\n", plots)
	b.growth(&w)
	loads(&w, r)
	fmt.Fprintf(&w, "\n![Processor time by rate](%s/processor-rate.svg)\n\n", plots)
	return w.String()
}

// loads writes what the sensor took under each load.
func loads(w *strings.Builder, r *compare.Results) {
	w.WriteString("\n### Loads\n\nWhat the default sensor takes while it watches, medians.\n\n")
	w.WriteString("| load | per second | processor | resident memory | events lost |\n|---|---|---|---|---|\n")
	for _, workload := range r.Workloads() {
		if c, rate, ok := r.Center(compare.Head, workload); ok {
			fmt.Fprintf(w, "| %s | %.0f | %.1f %% of a core | %.1f MiB | %.0f |\n", workload, rate, c.CPU, c.RSS/(1<<20), c.Dropped)
		}
	}
}

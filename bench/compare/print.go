package compare

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Marker begins the Markdown, so that a comment that is there already is found again.
const Marker = "<!-- sonde-bench -->"

// Regressions are the differences that are regressions.
func Regressions(all []Difference) (bad []Difference) {
	for _, d := range all {
		if d.Verdict == Regression {
			bad = append(bad, d)
		}
	}
	return bad
}

// summary is one sentence about all differences.
func summary(all []Difference) string {
	bad := Regressions(all)
	if len(bad) == 0 {
		return "No regression."
	}
	var names []string
	for _, d := range bad {
		names = append(names, d.Resource.Name+" under "+d.Workload)
	}
	return fmt.Sprintf("%d of %d are regressions: %s.", len(bad), len(all), strings.Join(names, ", "))
}

// columns are the heads of the table, of which rows are made by row.
var columns = []string{"load", "resource", "base", "head", "difference", "95 % interval", "p (Welch)", "p (Mann-Whitney)", "effect", "runs", "verdict"}

func row(d Difference) []string {
	return []string{
		d.Workload, d.Resource.Name, d.Resource.format(d.Base), d.Resource.format(d.Head),
		fmt.Sprintf("%+.1f", d.Head-d.Base), fmt.Sprintf("%+.1f to %+.1f", d.Low, d.High),
		fmt.Sprintf("%.3f", d.Welch), fmt.Sprintf("%.3f", d.Mann), fmt.Sprintf("%+.1f", d.Effect),
		fmt.Sprintf("%d, %d", d.N[0], d.N[1]), string(d.Verdict),
	}
}

// Text writes the differences for a terminal.
func Text(w io.Writer, all []Difference) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(columns, "\t"))
	for _, d := range all {
		fmt.Fprintln(t, strings.Join(row(d), "\t"))
	}
	fmt.Fprintln(t, summary(all))
	return t.Flush()
}

// Markdown writes the differences for a comment: values are medians. The trend may
// be nil.
func Markdown(w io.Writer, r *Results, all []Difference, trend []*Results) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n### Cost of the sensor\n\n%s\n\n", Marker, summary(all))
	table(&b, columns, func(add func(...string)) {
		for _, d := range all {
			add(row(d)...)
		}
	})
	fmt.Fprintf(&b, "\nMedians of interleaved runs on Linux %s, %d × %s. ", r.Machine.Kernel, r.Machine.CPUs, r.Machine.Processor)
	fmt.Fprintf(&b, "A regression is a difference that both tests find significant (p < %v) and whose whole interval is beyond its threshold:", alpha)
	for _, resource := range Resources {
		switch {
		case resource.Share > 0:
			fmt.Fprintf(&b, " %s %.0f %%;", resource.Name, 100*resource.Share)
		case resource.Floor > 0:
			fmt.Fprintf(&b, " %s %s;", resource.Name, resource.format(resource.Floor))
		default:
			fmt.Fprintf(&b, " %s any;", resource.Name)
		}
	}
	b.WriteString(" other differences are not spoken of.\n")
	if len(trend) > 0 {
		writeTrend(&b, r, trend)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func table(b *strings.Builder, heads []string, rows func(add func(...string))) {
	add := func(cells ...string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	add(heads...)
	b.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	rows(add)
}

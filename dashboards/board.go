package dashboards

import "strings"

// board is one dashboard.
type board struct {
	uid, title, description string
	variables               []variable // besides those that all have
	rows                    []row
}

// variable is a choice of label values, all of them by default.
type variable struct {
	name, label, metric string
}

// row is panels under a heading, laid out from left to right.
type row struct {
	title  string
	panels []panel
}

type kind int

const (
	series  kind = iota // lines over time
	stacked             // areas over time that add up
	stat                // one number
	bars                // a bar for each series, now
	heat                // a histogram over time
	table               // rows, now: one query per column, joined by what they have in common
)

type panel struct {
	kind               kind
	title, description string
	unit               string // as Grafana calls it
	width, height      uint32 // of 24 columns; rows of 30 pixels
	queries            []query
	warn, bad          float64 // where it turns yellow and red; 0 for never
	columns            []column
	ascending          bool   // a table with the smallest at the top
	link               string // uid of the dashboard that the column instance leads to
}

type query struct {
	expr   string // "{F" begins a selector of the chosen sensors, "[R]" is the range of a rate
	legend string
}

// column says how a query of a table is shown.
type column struct {
	title, unit string
	warn, bad   float64
}

// one is a single query.
func one(expr, legend string) []query { return []query{{expr, legend}} }

// expand writes an expression out.
func expand(expr string) string {
	const fleet = `cluster=~"$cluster", job=~"$job"`
	return strings.NewReplacer(
		"{F", "{"+fleet+`, instance=~"$instance"`,
		"{J", "{"+fleet,
		"[R]", "[$__rate_interval]",
	).Replace(expr)
}

// histogram is the rate of a histogram's buckets: the native ones, or where they are
// not scraped the classic ones. more is further matchers, with a comma before them.
func histogram(family, more string) []query {
	return one("sum(rate("+family+"{F"+more+"}[R])) or on () sum by (le) (rate("+family+"_bucket{F"+more+"}[R]))", "{{le}}")
}

// quantiles are recorded ones, a line for each.
func quantiles(record, more, legend string) []query {
	return one("max by (quantile"+more+") ("+record+":quantile5m{F})", legend)
}

// all returns the dashboards, in the order of the menu.
func all() []board {
	return []board{overview(), node(), syscalls(), network(), pipeline(), security(), sensor()}
}

// Query is one query of a panel, with Grafana's variables in it.
type Query struct {
	Dashboard, Panel, Expr string
	Heatmap                bool
}

// Queries returns every query of every dashboard.
func Queries() []Query {
	var queries []Query
	for _, b := range all() {
		for _, r := range b.rows {
			for _, p := range r.panels {
				for _, q := range p.queries {
					queries = append(queries, Query{b.title, p.title, expand(q.expr), p.kind == heat})
				}
			}
		}
	}
	return queries
}

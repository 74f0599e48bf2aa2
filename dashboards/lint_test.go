package dashboards

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sonde-ebpf/sonde/alerts"
	"github.com/sonde-ebpf/sonde/internal/promtest"
)

// The rules are those of Grafana's dashboard linter, and some of our own. They judge
// what is committed, as Grafana will read it.

// saved is a dashboard as it is saved.
type saved struct {
	UID, Title, Description, Refresh string
	Tags                             []string
	Editable                         bool
	SchemaVersion                    int
	Panels                           []savedPanel
	Links                            []struct {
		IncludeVars, KeepTime bool
		Placement             *string
	}
	Annotations struct {
		List []struct {
			Name, Expr string
			Datasource struct{ UID string }
			Placement  *string
		}
	}
	Templating struct{ List []savedVariable }
}

type savedVariable struct {
	Name, Label, Type, AllValue string
	Query                       any
	Refresh                     int
	Multi, IncludeAll           bool
	Datasource                  struct{ UID string }
}

type savedPanel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               struct{ Type, UID string }
	Targets                  []savedTarget
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct{ Steps []struct{ Value *float64 } }
		}
	}
	Options struct {
		Legend, Tooltip struct {
			ShowLegend bool
			Mode       string
		}
		ReduceOptions struct{ Calcs []string }
	}
}

type savedTarget struct {
	RefID, Expr, LegendFormat, Format string
	Datasource                        struct{ UID string }
	Instant, Range                    bool
}

func load(t *testing.T) []saved {
	t.Helper()
	paths, err := filepath.Glob("json/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var boards []saved
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var b saved
		if err := json.Unmarshal(content, &b); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		boards = append(boards, b)
	}
	return boards
}

const chosen = "${datasource}"

// units are those of Grafana that our panels may have.
var units = []string{"none", "short", "s", "bytes", "Bps", "percentunit", "cps", "bool"}

// dashboardRules judge a whole dashboard.
var dashboardRules = map[string]func(saved) error{
	"template-datasource": func(b saved) error {
		var n int
		for _, v := range b.Templating.List {
			if v.Type == "datasource" {
				n++
				if v.Name != "datasource" || v.Label != "Data source" || v.Query != "prometheus" {
					return fmt.Errorf("its data source variable is %+v", v)
				}
			}
		}
		return want("data source variables", n, 1)
	},
	"template-job":            func(b saved) error { return b.fleetVariable("job") },
	"template-instance":       func(b saved) error { return b.fleetVariable("instance") },
	"template-label-promql":   saved.variablesParse,
	"template-on-time-change": func(b saved) error { return b.eachQueryVariable(savedVariable.reloads) },
	"uneditable-dashboard":    func(b saved) error { return want("editable", b.Editable, false) },
	"uid": func(b saved) error {
		if !strings.HasPrefix(b.UID, "sonde-") || len(b.UID) > 40 {
			return fmt.Errorf("uid %q", b.UID)
		}
		return nil
	},
	"tag":    func(b saved) error { return want("tags", fmt.Sprint(b.Tags), "[sonde]") },
	"schema": func(b saved) error { return want("schema version", b.SchemaVersion, 42) },
	"links": func(b saved) error {
		if len(b.Links) != 1 || !b.Links[0].IncludeVars || !b.Links[0].KeepTime || b.Links[0].Placement != nil {
			return fmt.Errorf("its links are %+v", b.Links)
		}
		return nil
	},
	"annotations": func(b saved) error {
		for _, a := range b.Annotations.List {
			if a.Datasource.UID != chosen || a.Placement != nil {
				return fmt.Errorf("its annotation %s is %+v", a.Name, a)
			}
		}
		return want("annotations", len(b.Annotations.List), 2)
	},
	"described": func(b saved) error {
		if b.Title == "" || b.Description == "" {
			return fmt.Errorf("no title or no description")
		}
		return nil
	},
	"panel-ids":    saved.uniquePanels,
	"panel-places": saved.placedPanels,
}

// panelRules judge a panel.
var panelRules = map[string]func(savedPanel) error{
	"panel-datasource": func(p savedPanel) error { return want("data source", p.Datasource.UID, chosen) },
	"panel-title-description": func(p savedPanel) error {
		if p.Title == "" || !strings.HasSuffix(p.Description, ".") {
			return fmt.Errorf("no title, or no sentence of description")
		}
		return nil
	},
	"panel-units": func(p savedPanel) error {
		if p.Type == "table" {
			return nil // each column has one of its own
		}
		if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
			return fmt.Errorf("unit %q", p.FieldConfig.Defaults.Unit)
		}
		return nil
	},
	"panel-no-targets": func(p savedPanel) error {
		if len(p.Targets) == 0 {
			return fmt.Errorf("no query")
		}
		return nil
	},
	"legend": func(p savedPanel) error {
		if p.Type == "timeseries" && (!p.Options.Legend.ShowLegend || p.Options.Tooltip.Mode != "multi") {
			return fmt.Errorf("no legend, or no tooltip of all series")
		}
		return nil
	},
	"reduced": func(p savedPanel) error {
		if (p.Type == "stat" || p.Type == "bargauge") && fmt.Sprint(p.Options.ReduceOptions.Calcs) != "[lastNotNull]" {
			return fmt.Errorf("it shows %v", p.Options.ReduceOptions.Calcs)
		}
		return nil
	},
	"thresholds-begin": func(p savedPanel) error {
		if s := p.FieldConfig.Defaults.Thresholds.Steps; len(s) == 0 || s[0].Value != nil {
			return fmt.Errorf("its thresholds do not begin with a colour for all else")
		}
		return nil
	},
}

// targetRules judge a query.
var targetRules = map[string]func(*promtest.Catalogue, savedTarget) error{
	"target-datasource": func(_ *promtest.Catalogue, q savedTarget) error { return want("data source", q.Datasource.UID, chosen) },
	"target-promql":     func(_ *promtest.Catalogue, q savedTarget) error { _, err := parsed(q.Expr); return err },
	"target-rate-interval": func(_ *promtest.Catalogue, q savedTarget) error {
		for _, m := range rateRange.FindAllStringSubmatch(q.Expr, -1) {
			if m[1] != "$__rate_interval" {
				return fmt.Errorf("rate over %s", m[1])
			}
		}
		return nil
	},
	"target-job":         func(_ *promtest.Catalogue, q savedTarget) error { return selects(q.Expr, "job") },
	"target-instance":    func(_ *promtest.Catalogue, q savedTarget) error { return selects(q.Expr, "instance") },
	"target-counter-agg": func(_ *promtest.Catalogue, q savedTarget) error { return countersAreRates(q.Expr) },
	"metrics-exist":      func(c *promtest.Catalogue, q savedTarget) error { _, err := c.Check(substitute(q.Expr)); return err },
	"legend-labels": func(c *promtest.Catalogue, q savedTarget) error {
		labels, err := c.Check(substitute(q.Expr))
		if err != nil {
			return nil // said by metrics-exist
		}
		if q.LegendFormat == "" {
			return fmt.Errorf("no legend")
		}
		for _, m := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
			if !slices.Contains(labels, m[1]) {
				return fmt.Errorf("its legend names %s, and it leaves %v", m[1], labels)
			}
		}
		return nil
	},
}

var (
	rateRange   = regexp.MustCompile(`\b(?:rate|irate)\([^()]*\[([^\]]+)\]`)
	legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)
	asked       = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
)

// exempt are the metrics that have no instance or job, with why.
var exempt = map[string]string{
	"ALERTS": "an alert about the fleet has no instance",
	"job:":   "recorded for all instances together",
}

// TestLint applies every rule to every dashboard, panel and query.
func TestLint(t *testing.T) {
	c := promtest.Scraped(t)
	for _, b := range load(t) {
		for name, rule := range dashboardRules {
			if err := rule(b); err != nil {
				t.Errorf("%s: %s: %v", name, b.UID, err)
			}
		}
		for _, p := range b.Panels {
			if p.Type == "row" {
				continue
			}
			for name, rule := range panelRules {
				if err := rule(p); err != nil {
					t.Errorf("%s: %s, %s: %v", name, b.UID, p.Title, err)
				}
			}
			for _, q := range p.Targets {
				for name, rule := range targetRules {
					if err := rule(c, q); err != nil {
						t.Errorf("%s: %s, %s, %s: %v", name, b.UID, p.Title, q.RefID, err)
					}
				}
			}
		}
		for _, a := range b.Annotations.List {
			if _, err := c.Check(substitute(a.Expr)); err != nil {
				t.Errorf("metrics-exist: %s, annotation %s: %v", b.UID, a.Name, err)
			}
		}
	}
}

// TestLinks: what alerts and panels lead to is there.
func TestLinks(t *testing.T) {
	uids := map[string]bool{}
	for _, b := range load(t) {
		uids[b.UID] = true
	}
	for _, g := range alerts.Groups() {
		for _, a := range g.Alerts {
			if !uids[a.Dashboard] {
				t.Errorf("%s: no dashboard %q", a.Name, a.Dashboard)
			}
		}
	}
	for _, b := range all() {
		for _, r := range b.rows {
			for _, p := range r.panels {
				if p.link != "" && !uids[p.link] {
					t.Errorf("%s, %s: no dashboard %q", b.uid, p.title, p.link)
				}
			}
		}
	}
}

func want[T comparable](what string, got, wanted T) error {
	if got != wanted {
		return fmt.Errorf("%s %v, want %v", what, got, wanted)
	}
	return nil
}

// substitute replaces what Grafana would.
func substitute(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$cluster", ".*", "$job", ".+", "$instance", ".+", "$syscall", ".+").Replace(expr)
}

func parsed(expr string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(substitute(expr))
}

// selects wants the variable of a label in every selector.
func selects(expr, label string) error {
	e, err := parsed(strings.ReplaceAll(expr, "$"+label, "CHOSEN"))
	if err != nil {
		return err
	}
	for _, s := range parser.ExtractSelectors(e) {
		var found bool
		var name string
		for _, m := range s {
			found = found || m.Name == label && m.Value == "CHOSEN"
			if m.Name == "__name__" {
				name = m.Value
			}
		}
		level, _, _ := strings.Cut(name, ":")
		if reason := exempt[name] + exempt[level+":"]; !found && (reason == "" || name != "ALERTS" && label == "job") {
			return fmt.Errorf("%s is selected without %s", name, label)
		}
	}
	return nil
}

// countersAreRates wants counters inside rates only.
func countersAreRates(expr string) error {
	e, err := parsed(expr)
	if err != nil {
		return err
	}
	var fault error
	parser.Inspect(e, func(node parser.Node, path []parser.Node) error {
		v, ok := node.(*parser.VectorSelector)
		if !ok || !strings.HasSuffix(v.Name, "_total") || v.Name == "sonde_sensor_terminations_total" {
			return nil // how often runs have ended is read as it is: a run ends once
		}
		for _, p := range path {
			if call, ok := p.(*parser.Call); ok && slices.Contains([]string{"rate", "irate", "increase"}, call.Func.Name) {
				return nil
			}
		}
		fault = fmt.Errorf("%s outside a rate", v.Name)
		return nil
	})
	return fault
}

func (b saved) fleetVariable(name string) error {
	for _, v := range b.Templating.List {
		if v.Name != name {
			continue
		}
		if v.Type != "query" || !strings.EqualFold(v.Label, name) || !v.Multi || !v.IncludeAll || v.AllValue != ".+" || v.Datasource.UID != chosen {
			return fmt.Errorf("its variable is %+v", v)
		}
		return nil
	}
	return fmt.Errorf("no variable %s", name)
}

func (b saved) eachQueryVariable(rule func(savedVariable) error) error {
	for _, v := range b.Templating.List {
		if v.Type == "query" {
			if err := rule(v); err != nil {
				return fmt.Errorf("variable %s: %w", v.Name, err)
			}
		}
	}
	return nil
}

// reloads wants values that follow the time range.
func (v savedVariable) reloads() error { return want("refresh", v.Refresh, 2) }

func (b saved) variablesParse() error {
	return b.eachQueryVariable(func(v savedVariable) error {
		m, ok := v.Query.(map[string]any)
		if !ok {
			return fmt.Errorf("its query is %v", v.Query)
		}
		parts := asked.FindStringSubmatch(fmt.Sprint(m["query"]))
		if parts == nil {
			return fmt.Errorf("its query is %v", m["query"])
		}
		_, err := parsed(parts[1])
		return err
	})
}

func (b saved) uniquePanels() error {
	ids, titles := map[int]bool{}, map[string]bool{}
	for _, p := range b.Panels {
		if p.Type == "row" {
			titles = map[string]bool{}
		}
		if p.ID == 0 || ids[p.ID] || titles[p.Title] {
			return fmt.Errorf("panel %s: its id %d or title is not its own", p.Title, p.ID)
		}
		ids[p.ID], titles[p.Title] = true, true
	}
	return nil
}

// placedPanels wants panels that fill their lines and do not overlap.
func (b saved) placedPanels() error {
	taken := map[[2]int]string{}
	for _, p := range b.Panels {
		at := p.GridPos
		if at.W == 0 || at.H == 0 || at.X+at.W > 24 {
			return fmt.Errorf("panel %s: place %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					return fmt.Errorf("panels %s and %s overlap", other, p.Title)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	for place, title := range taken {
		for x := range 24 {
			if taken[[2]int{x, place[1]}] == "" {
				return fmt.Errorf("beside panel %s is a hole", title)
			}
		}
	}
	return nil
}

package alerts_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/alerts"
	"github.com/sonde-ebpf/sonde/internal/promtest"
	"github.com/sonde-ebpf/sonde/internal/testenv/golden"
)

// TestGenerated writes the generated files, and fails when what is there differs.
func TestGenerated(t *testing.T) {
	groups := alerts.Groups()
	for path, make := range map[string]func() ([]byte, error){
		"rules.yml":           func() ([]byte, error) { return alerts.Rules(groups) },
		"rules_test.yml":      func() ([]byte, error) { return unitTests("rules.yml", "5m", groups, quick(cases)) },
		"rules_long_test.yml": func() ([]byte, error) { return unitTests("rules.yml", "10m", groups, long(cases)) },
		"../docs/alerts.md":   func() ([]byte, error) { return page(groups) },
		"../deploy/prometheus-operator/prometheusrule.yaml": func() ([]byte, error) { return alerts.PrometheusRule(groups) },
		"../deploy/prometheus-operator/servicemonitor.yaml": alerts.ServiceMonitor,
		"../deploy/prometheus-operator/podmonitor.yaml":     alerts.PodMonitor,
	} {
		content, err := make()
		if err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, path, content)
	}
}

// byName returns the alerts in order, those of one name together.
func byName(groups []alerts.Group) map[string][]alerts.Alert {
	all := map[string][]alerts.Alert{}
	for _, g := range groups {
		for _, a := range g.Alerts {
			all[a.Name] = append(all[a.Name], a)
		}
	}
	return all
}

var (
	templated  = regexp.MustCompile(`\$labels\.(\w+)`)
	recordName = regexp.MustCompile(`^(job|instance(_[a-z]+)*):sonde_[a-z_]+:[a-z]+(_[a-z]+)?(\d+[mhd])?(_quantile1h)?$`)
	comparison = regexp.MustCompile(`[<>]|==|absent\(|unless`)
)

// TestExpressions: every rule uses what exists, and every label that a text names is
// one that its expression leaves.
func TestExpressions(t *testing.T) {
	c := promtest.Scraped(t)
	for name, rules := range byName(alerts.Groups()) {
		for _, a := range rules {
			labels, err := c.Check(a.Expr)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, m := range templated.FindAllStringSubmatch(a.Description+a.Link(), -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: its text names the label %s, which %s has not", name, m[1], a.Expr)
				}
			}
		}
	}
}

// TestConventions: what everybody who reads the rules relies on.
func TestConventions(t *testing.T) {
	for _, g := range alerts.Groups() {
		for _, r := range g.Records {
			if !recordName.MatchString(r.Name) {
				t.Errorf("record %s: not level:metric:operations", r.Name)
			}
		}
		for _, a := range g.Alerts {
			switch {
			case !strings.HasPrefix(a.Name, "Sonde"):
				t.Errorf("%s: its name does not begin with Sonde", a.Name)
			case !slices.Contains([]alerts.Severity{alerts.Critical, alerts.Warning, alerts.Info, alerts.None}, a.Severity):
				t.Errorf("%s: severity %q", a.Name, a.Severity)
			case !strings.HasSuffix(a.Summary, ".") || strings.Contains(a.Summary, "{{"):
				t.Errorf("%s: its summary is not a sentence without variables", a.Name)
			case a.Severity != alerts.None && !comparison.MatchString(a.Expr):
				t.Errorf("%s: it would always fire", a.Name)
			case a.For == 0 && a.Severity != alerts.None && !strings.Contains(a.Expr, "increase(") && !strings.Contains(a.Expr, "changes("):
				t.Errorf("%s: it fires at once, and is not about what happened once", a.Name)
			}
		}
	}
}

// TestRunbooks: every alert has a page with the four sections, every page an alert,
// and what a page asks Prometheus can be asked.
func TestRunbooks(t *testing.T) {
	c := promtest.Scraped(t)
	pages := map[string]bool{}
	entries, err := os.ReadDir("runbooks")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pages[strings.TrimSuffix(e.Name(), ".md")] = true
	}
	for name, rules := range byName(alerts.Groups()) {
		if _, file, _ := strings.Cut(rules[0].Runbook(), "/main/alerts/"); file != "runbooks/"+name+".md" {
			t.Errorf("%s: its runbook is %s", name, rules[0].Runbook())
		}
		if !pages[name] {
			t.Errorf("%s: no runbook", name)
			continue
		}
		delete(pages, name)
		text, err := os.ReadFile("runbooks/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		checkRunbook(t, c, name, string(text))
	}
	for name := range pages {
		t.Errorf("runbooks/%s.md: no such alert", name)
	}
}

var (
	heading = regexp.MustCompile(`(?m)^##? .*$`)
	promql  = regexp.MustCompile("(?s)```promql\n(.*?)```")
	command = regexp.MustCompile("(?m)^sonde ([a-z-]+)")
)

func checkRunbook(t *testing.T, c *promtest.Catalogue, name, text string) {
	t.Helper()
	want := []string{"# " + name, "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"}
	if got := heading.FindAllString(text, -1); !slices.Equal(got, want) {
		t.Errorf("runbook %s: headings %q, want %q", name, got, want)
	}
	for _, block := range promql.FindAllStringSubmatch(text, -1) {
		for expr := range strings.Lines(block[1]) {
			if _, err := c.Check(expr); err != nil {
				t.Errorf("runbook %s: %v", name, err)
			}
		}
	}
	for _, m := range command.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(documented(t), "`"+m[1]) && !strings.Contains(documented(t), "sonde "+m[1]) {
			t.Errorf("runbook %s: no verb %s", name, m[1])
		}
	}
}

// documented returns the pages that name every verb.
func documented(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, page := range []string{"../docs/flags.md", "../docs/sessions.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

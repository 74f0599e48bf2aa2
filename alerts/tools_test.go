package alerts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/alerts"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}

// run starts a tool and fails if it does.
func run(t *testing.T, tool string, args ...string) {
	t.Helper()
	if out, err := exec.Command(testenv.Tool(t, tool), args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%.20000s", tool, strings.Join(args, " "), err, out)
	}
}

// TestRulesLoad: Prometheus and VictoriaMetrics take the rules, and linters find
// nothing in them.
func TestRulesLoad(t *testing.T) {
	run(t, "promtool", "check", "rules", "--lint=all", "--lint-fatal", "rules.yml")
	run(t, "vmalert", "-dryRun", "-rule=rules.yml")
	run(t, "pint", "--no-color", "--offline", "--config=pint.hcl", "lint", "--min-severity=warning", "--fail-on=warning", "rules.yml")
}

// TestAlertsFire: each alert fires when it should, and not when it should not.
func TestAlertsFire(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range cases {
		tested[c.alert+c.labels["long"]] = true
	}
	for name, rules := range byName(alerts.Groups()) {
		for _, a := range rules {
			if !tested[name+a.Labels["long"]] {
				t.Errorf("%s: no case", name)
			}
		}
	}
	for _, file := range []string{"rules_test.yml", "rules_long_test.yml"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			run(t, "promtool", "test", "rules", file)
		})
	}
}

// TestCasesNotice: no rule can be turned round without a case that fails.
func TestCasesNotice(t *testing.T) {
	dir := t.TempDir()
	args := []string{"test", "rules"}
	for _, c := range cases {
		groups := alerts.Groups()
		name := c.alert + c.labels["long"]
		if !mutate(groups, c) {
			continue
		}
		groups = needed(groups, c)
		content, err := alerts.Rules(groups)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".yml"), content)
		every := "5m"
		if takesDays(c) {
			every = "10m"
		}
		content, err = unitTests(name+".yml", every, groups, []unitCase{c})
		if err != nil {
			t.Fatal(err)
		}
		test := filepath.Join(dir, name+"_test.yml")
		write(t, test, content)
		args = append(args, test)
	}
	out, _ := exec.Command(testenv.Tool(t, "promtool"), args...).CombinedOutput()
	verdicts := verdict.FindAllString(string(out), -1)
	if len(verdicts) != len(args)-2 {
		t.Fatalf("promtool tested %d of %d rules:\n%.2000s", len(verdicts), len(args)-2, out)
	}
	for i, v := range verdicts {
		if v == "  SUCCESS" {
			t.Errorf("%s: turned round, and no case fails", strings.TrimSuffix(filepath.Base(args[2+i]), "_test.yml"))
		}
	}
}

// verdict is what promtool says of each file.
var verdict = regexp.MustCompile("(?m)^  (SUCCESS|FAILED:)$")

// turn says what becomes of a comparison.
var turn = strings.NewReplacer(" > ", " <= ", " < ", " >= ", " == 0", " != 0", " == 3", " != 3", "unless", "and", "absent(", "sum(", " and on ", " or on ")

// mutate turns the rule of a case round, in place.
func mutate(groups []alerts.Group, c unitCase) bool {
	for _, g := range groups {
		for i, a := range g.Alerts {
			if rule, err := c.rule([]alerts.Alert{a}); err == nil && rule.Name == c.alert {
				g.Alerts[i].Expr = turn.Replace(a.Expr)
				return g.Alerts[i].Expr != a.Expr
			}
		}
	}
	return false
}

// needed are the one alert, and the records it is made of.
func needed(groups []alerts.Group, c unitCase) []alerts.Group {
	only := alerts.Group{Name: "only"}
	var exprs string
	for _, g := range groups {
		for _, a := range g.Alerts {
			if rule, err := c.rule([]alerts.Alert{a}); err == nil && rule.Name == c.alert {
				only.Alerts = append(only.Alerts, a)
				exprs += a.Expr
			}
		}
	}
	records := groups[0].Records // in the order in which they use each other
	for _, r := range slices.Backward(records) {
		if strings.Contains(exprs, r.Name) {
			only.Records = slices.Insert(only.Records, 0, r)
			exprs += r.Expr
		}
	}
	return []alerts.Group{only}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

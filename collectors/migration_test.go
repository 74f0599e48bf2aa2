package collectors_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/sonde-ebpf/sonde/internal/promtest"
)

// migration is one row of docs/migration.md.
type migration struct {
	theirs []string // selectors
	ours   string   // PromQL, "" if there is none
	remark string
}

// How a remark begins if the expression cannot be used, or is missing.
const (
	planned      = "Planned: not yet exported."
	noEquivalent = "No equivalent: "
)

// TestMigration: every expression can be parsed and uses what exists, or says that it
// does not exist yet; and every series of the other agents has an answer.
func TestMigration(t *testing.T) {
	text, err := os.ReadFile("../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := parseMigration(string(text))
	known := promtest.New(catalogue(), false)
	answered := map[string]bool{}
	for _, row := range rows {
		if err := row.check(known); err != nil {
			t.Errorf("%s: %v", strings.Join(row.theirs, ", "), err)
		}
		for _, series := range row.theirs {
			if answered[series] {
				t.Errorf("%s: two rows", series)
			}
			answered[series] = true
			answered[strings.SplitN(series, "{", 2)[0]] = true
		}
	}
	list, err := os.ReadFile("testdata/other_agents.txt")
	if err != nil {
		t.Fatal(err)
	}
	for series := range strings.Lines(string(list)) {
		if series = strings.TrimSpace(series); !strings.HasPrefix(series, "#") && !answered[series] {
			t.Errorf("%s: no row", series)
		}
	}
}

var (
	migrationRow = regexp.MustCompile("(?m)^\\| (`(?:rox|tetragon|tracee|\\{).*`) \\| (.*?) \\| ?(.*?) ?\\|$")
	code         = regexp.MustCompile("`([^`]+)`")
)

func parseMigration(text string) []migration {
	var rows []migration
	for _, m := range migrationRow.FindAllStringSubmatch(text, -1) {
		row := migration{remark: m[3]}
		for _, c := range code.FindAllStringSubmatch(m[1], -1) {
			row.theirs = append(row.theirs, c[1])
		}
		if c := code.FindStringSubmatch(m[2]); c != nil {
			row.ours = c[1]
		}
		rows = append(rows, row)
	}
	return rows
}

func (m migration) check(known *promtest.Catalogue) error {
	for _, series := range m.theirs {
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(series); err != nil {
			return fmt.Errorf("series %s: %w", series, err)
		}
	}
	if m.ours == "" {
		if !strings.HasPrefix(m.remark, noEquivalent) {
			return fmt.Errorf("neither an expression nor a remark that begins with %q", noEquivalent)
		}
		return nil
	}
	_, missing := known.Check(m.ours)
	switch isPlanned := strings.HasPrefix(m.remark, planned); {
	case missing != nil && !isPlanned:
		return missing
	case missing == nil && isPlanned:
		return errors.New("all of it exists: the row is no longer a plan")
	}
	return nil
}

// TestMigrationNotices: each kind of mistake is found.
func TestMigrationNotices(t *testing.T) {
	known := promtest.New(catalogue(), false)
	for name, row := range map[string]migration{
		"malformed expression": {ours: "sum(sonde_processes"},
		"malformed series":     {theirs: []string{"rox_x{"}, ours: "sonde_processes"},
		"no metric":            {ours: "sonde_no_such_total"},
		"no label":             {ours: `sonde_processes{pod="x"}`},
		"no value":             {ours: `sonde_connections{direction="sideways"}`},
		"no grouping label":    {ours: "sum by (pod) (sonde_connections)"},
		"not a histogram":      {ours: "histogram_sum(sonde_processes)"},
		"rate of a gauge":      {ours: "rate(sonde_processes[5m])"},
		"stale plan":           {ours: "sonde_processes", remark: planned},
		"nothing said":         {remark: "None."},
	} {
		if err := row.check(known); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
	for name, row := range map[string]migration{
		"good":          {ours: `sum by (direction) (rate(sonde_connections_opened_total{peer=~"p.*"}[5m]))`},
		"plan":          {ours: "sonde_no_such_total", remark: planned},
		"no equivalent": {remark: noEquivalent + "reasons."},
	} {
		if err := row.check(known); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rows := parseMigration("| `rox_a`<br>`rox_b` | `x` | |\n| `tracee_c` | – | No equivalent: why. |\n"); len(rows) != 2 ||
		len(rows[0].theirs) != 2 || rows[0].ours != "x" || rows[1].ours != "" || rows[1].remark != "No equivalent: why." {
		t.Errorf("parsed %+v", rows)
	}
}

package alerts

import (
	"bytes"
	"maps"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// header begins every generated file.
const header = "# Generated from the Go source in alerts/: make docs writes it, a test fails when it is stale.\n"

type ruleGroups struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

func asYAML(groups []Group) ruleGroups {
	var all ruleGroups
	for _, g := range groups {
		group := ruleGroup{Name: g.Name}
		for _, r := range g.Records {
			group.Rules = append(group.Rules, rule{Record: r.Name, Expr: r.Expr, Labels: r.Labels})
		}
		for _, a := range g.Alerts {
			group.Rules = append(group.Rules, a.rule())
		}
		all.Groups = append(all.Groups, group)
	}
	return all
}

func (a Alert) rule() rule {
	labels := map[string]string{"severity": string(a.Severity)}
	maps.Copy(labels, a.Labels)
	return rule{
		Alert: a.Name, Expr: a.Expr, For: duration(a.For), Labels: labels,
		Annotations: map[string]string{
			"summary": a.Summary, "description": a.Description, "runbook_url": a.Runbook(), "dashboard_url": a.Link(),
		},
	}
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return model.Duration(d).String()
}

// Rules renders groups as a rule file of Prometheus, which vmalert, Mimir and Thanos
// read too.
func Rules(groups []Group) ([]byte, error) { return render(asYAML(groups)) }

func render(documents ...any) ([]byte, error) {
	b := bytes.NewBufferString(header)
	e := yaml.NewEncoder(b)
	e.SetIndent(2)
	for _, d := range documents {
		if err := e.Encode(d); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), e.Close()
}

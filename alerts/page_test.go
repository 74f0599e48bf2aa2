package alerts_test

import (
	"bytes"
	"strings"
	"text/template"

	"github.com/prometheus/common/model"

	"github.com/sonde-ebpf/sonde/alerts"
)

// page renders docs/alerts.md.
func page(groups []alerts.Group) ([]byte, error) {
	tmpl, err := template.New("alerts.md.tmpl").Funcs(template.FuncMap{
		"title": func(group string) string {
			name := strings.TrimPrefix(group, "sonde-")
			return strings.ToUpper(name[:1]) + name[1:]
		},
		"hold": func(a alerts.Alert) string {
			if a.For == 0 {
				return "at once"
			}
			return model.Duration(a.For).String()
		},
		// A bar in a table's cell is escaped even inside code.
		"cell": func(expr string) string { return strings.ReplaceAll(expr, "|", `\|`) },
	}).ParseFiles("../docs/alerts.md.tmpl")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = tmpl.Execute(&b, groups)
	return b.Bytes(), err
}

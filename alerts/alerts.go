package alerts

import (
	"strings"
	"time"
)

// Job is the job that the rules select: what scrapes the sensor must be called so.
const Job = "sonde"

// Group is rules that are evaluated together, the recording ones first.
type Group struct {
	Name    string
	Records []Record
	Alerts  []Alert
}

// Record is a recording rule.
type Record struct {
	Name   string // level:metric:operations
	Expr   string
	Labels map[string]string // that it adds; nil for none
}

// Severity says who is to look when.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // now
	Warning  Severity = "warning"  // in working hours
	Info     Severity = "info"     // beside another alert
	None     Severity = "none"     // nobody: it shows that alerting works
)

// Alert is an alert rule.
type Alert struct {
	Name     string
	Severity Severity
	Expr     string
	For      time.Duration // how long it must hold
	// Labels that it adds besides the severity, where several rules have one name.
	Labels      map[string]string
	Summary     string // a sentence without variables
	Description string // a template: what, where, how much
	Dashboard   string // the uid of the one to open
}

// Runbook returns the address of the page that says what to do.
func (a Alert) Runbook() string {
	return "https://github.com/sonde-ebpf/sonde/blob/main/alerts/runbooks/" + a.Name + ".md"
}

// Link returns the path of the dashboard below the address of Grafana, a template.
func (a Alert) Link() string {
	link := "/d/" + a.Dashboard
	if strings.Contains(a.Description, "$labels.instance") {
		link += "?var-instance={{ $labels.instance }}"
	}
	return link
}

// Groups returns all rules.
func Groups() []Group {
	return []Group{
		{Name: "sonde-records", Records: records()},
		{Name: "sonde-availability", Alerts: availability()},
		{Name: "sonde-resources", Alerts: resources()},
		{Name: "sonde-events", Alerts: eventPath()},
		{Name: "sonde-kernel", Alerts: kernelSide()},
		{Name: "sonde-sinks", Alerts: sinks()},
		{Name: "sonde-node", Alerts: node()},
		{Name: "sonde-kubernetes", Alerts: kubernetes()},
	}
}

// expand writes an expression out: "{S" begins a selector of the sensor's job, and
// "(I" a list of labels with those that tell one sensor from another.
func expand(expr string) string {
	return strings.NewReplacer(
		"{S", `{job="`+Job+`"`,
		"(I", "(cluster, job, instance",
	).Replace(expr)
}

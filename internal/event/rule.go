package event

import "fmt"

// Rule is a detection rule, as the events that it fits carry it. It never changes.
type Rule struct {
	Name      string
	Severity  Severity
	Technique string // of MITRE ATT&CK, such as T1059.004
}

// Severity is how bad it is what a rule detects.
type Severity uint8

// The severities, the least first.
const (
	Low Severity = iota
	Medium
	High
	Critical

	// Severities is their number.
	Severities = int(Critical) + 1
)

var severityNames = [Severities]string{"low", "medium", "high", "critical"}

// String returns the severity as rule files and labels spell it.
func (s Severity) String() string { return severityNames[s] }

// ParseSeverity reads what String writes.
func ParseSeverity(text string) (Severity, error) {
	for i, name := range severityNames {
		if name == text {
			return Severity(i), nil
		}
	}
	return 0, fmt.Errorf("severity %q: write low, medium, high or critical", text)
}

// AllSeverities returns the names of all, the least first.
func AllSeverities() []string { return severityNames[:] }

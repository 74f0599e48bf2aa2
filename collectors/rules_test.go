package collectors_test

import (
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/rules"
)

func idleRules() *rules.Engine { return rules.NewEngine(rules.Self{}) }

// busyRules have seen one event, which one of them fits and one cannot judge.
func busyRules() *rules.Engine {
	set, err := rules.Compile([]rules.File{{Name: "a.yaml", Text: []byte(`
version: "7"
rules:
- {name: everything, severity: low, technique: T1059, points: [process/exec], condition: "true"}
- {name: puzzled, severity: critical, technique: T1059, points: [process/exec], condition: "1 / exec.uid == 1"}
`)}})
	if err != nil {
		panic(err)
	}
	e := idleRules()
	e.Use(set)
	e.Mark(&event.Event{Point: event.ProcessExec})
	return e
}

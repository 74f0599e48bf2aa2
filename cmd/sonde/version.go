package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/sonde-ebpf/sonde/introspect"
)

// Set by the linker (see the Makefile).
var (
	version  = "0.0.0-dev"
	revision = "unknown"
)

// build describes this binary.
type build struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	GoVersion string `json:"goversion"`
	Platform  string `json:"platform"`
}

func thisBuild() build {
	return build{version, revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

// versions is what `sonde version --json` prints: this binary and the sensor that runs.
type versions struct {
	build
	Agent *agentVersion `json:"agent"`                 // nil where none runs
	Error string        `json:"agent_error,omitempty"` // why one that runs is not asked
}

// agentVersion is the version of a running sensor.
type agentVersion struct {
	Version   string    `json:"version"`
	Revision  string    `json:"revision"`
	GoVersion string    `json:"goversion"`
	Node      string    `json:"node"`
	PID       int       `json:"pid"`
	Started   time.Time `json:"started"`

	Rules introspect.SensorRules `json:"rules"`
}

func (c *cli) addVersion() {
	c.ask(c.app.Command("version", "Print the version of this binary and of the sensor that runs."), runVersion)
}

// runVersion tells the versions. That no sensor runs is no error, unless one was
// asked for by its address.
func runVersion(ctx context.Context, q *asking) error {
	if err := q.load(); err != nil {
		return err
	}
	v, named := versions{build: thisBuild()}, q.options.Address != ""
	agent, err := askVersion(ctx, q)
	switch {
	case err != nil && named:
		return err
	case err == nil:
		v.Agent = agent
	case codeOf(err) != exitNoSensor:
		v.Error = err.Error()
	}
	return q.show(v, func(p *page) {
		fmt.Fprintf(p.w, "sonde %s (revision %s, %s, %s)\n", v.Version, v.Revision, v.GoVersion, v.Platform)
		switch {
		case agent != nil:
			fmt.Fprintf(p.w, "running: %s (revision %s, %s), pid %d on %s\n",
				agent.Version, agent.Revision, agent.GoVersion, agent.PID, printable(agent.Node))
			if r := agent.Rules; r.Rules > 0 {
				fmt.Fprintf(p.w, "rules: %d, version %s (%s)\n", r.Rules, r.Version, r.Hash)
			}
		case v.Error != "":
			fmt.Fprintf(p.w, "running: unknown: %s\n", v.Error)
		default:
			fmt.Fprintln(p.w, "running: none")
		}
	})
}

func askVersion(ctx context.Context, q *asking) (*agentVersion, error) {
	if err := q.connect(ctx); err != nil {
		return nil, err
	}
	var s introspect.Sensor
	if err := q.get(ctx, "/state/sensor", &s); err != nil {
		return nil, err
	}
	return &agentVersion{s.Version, s.Revision, s.GoVersion, s.Node, s.PID, s.Started, s.Rules}, nil
}

// writeJSON writes one indented JSON value and a newline.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

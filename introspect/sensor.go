package introspect

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
)

// ready answers GET /ready.
func (c *call) ready() error {
	if c.sources.Ready == nil {
		return missing("readiness")
	}
	r := c.sources.Ready()
	answer := ReadyAnswer{Reasons: r.Reasons, Status: "ok"}
	answer.Collector.Drops, answer.Collector.Events, answer.Collector.Node = r.Drops, r.Events, r.Node
	status := http.StatusOK
	if len(r.Reasons) > 0 {
		status = http.StatusServiceUnavailable
		answer.Status, answer.Error = "not ready", "not ready: "+strings.Join(r.Reasons, "; ")
	}
	writeJSON(c.w, status, answer)
	return nil
}

// pipeline answers GET /state/pipeline.
func (c *call) pipeline() error {
	if c.sources.Pipeline == nil {
		return missing("pipeline")
	}
	p := c.sources.Pipeline()
	// a list that is empty is [], not null
	p.Probes, p.Rings, p.Points = notNil(p.Probes), notNil(p.Rings), notNil(p.Points)
	p.Sessions, p.State = notNil(p.Sessions), notNil(p.State)
	b := &p.BlackBox
	b.Terminations, b.Ends, b.Kills = notNil(b.Terminations), notNil(b.Ends), notNil(b.Kills)
	if p.GVisor != nil {
		p.GVisor.Connections, p.GVisor.Orphans = notNil(p.GVisor.Connections), notNil(p.GVisor.Orphans)
	}
	return c.answer(p)
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// sensor answers GET /state/sensor.
func (c *call) sensor() error {
	if c.sources.Sensor == nil {
		return missing("sensor")
	}
	s := c.sources.Sensor()
	s.Started, s.Programs, s.Maps = utc(s.Started), notNil(s.Programs), notNil(s.Maps)
	return c.answer(s)
}

// runtimeConfig answers GET /state/runtime-config: the configuration as the file
// writes it, and beside it where the values come from.
func (c *call) runtimeConfig() error {
	if c.sources.Runtime == nil {
		return missing("runtime configuration")
	}
	r := c.sources.Runtime.RuntimeConfig()
	answer, origins := map[string]any{}, map[string]config.Origin{}
	for _, v := range r.Values {
		plant(answer, strings.Split(v.Key, "."), shownValue(v.Value))
		origins[v.Key] = v.Origin
	}
	answer["origins"] = origins
	status := ConfigStatus{Generation: r.Generation, Source: r.Source, Time: utc(r.Time)}
	if r.LastError != nil {
		text := r.LastError.Error()
		status.LastError, status.LastErrorTime = &text, utc(r.LastErrorTime)
	}
	answer["status"] = status
	return c.answer(answer)
}

// utc leaves the zero time as it is.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// plant puts a value where its key says.
func plant(tree map[string]any, path []string, value any) {
	for ; len(path) > 1; path = path[1:] {
		below, ok := tree[path[0]].(map[string]any)
		if !ok {
			below = map[string]any{}
			tree[path[0]] = below
		}
		tree = below
	}
	tree[path[0]] = value
}

// shownValue writes a value as the configuration file would.
func shownValue(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return v.String()
	case []config.Network:
		all := []map[string]string{}
		for _, n := range v {
			all = append(all, map[string]string{"name": n.Name, "cidr": n.CIDR.String()})
		}
		return all
	case []config.Session:
		all := []map[string]any{}
		for _, s := range v {
			all = append(all, s.Raw)
		}
		return all
	case []config.Prefix:
		return notNil(v)
	case []string:
		return notNil(v)
	case map[string]string:
		if v == nil {
			return map[string]string{}
		}
	}
	return v
}

// putRuntimeConfig answers PUT /state/runtime-config.
func (c *call) putRuntimeConfig() error {
	if c.sources.Runtime == nil {
		return missing("runtime configuration")
	}
	text, err := c.body()
	if err != nil {
		return err
	}
	c.change = fmt.Sprintf("configuration of %d bytes", len(text))
	if len(strings.TrimSpace(string(text))) == 0 {
		return problemf(http.StatusBadRequest, "the body is empty: write YAML or JSON with the keys to change")
	}
	if err := c.sources.Runtime.PutRuntimeConfig(text, "PUT by "+client(c.r)); err != nil {
		faults := faultsOf(err)
		return &problem{http.StatusBadRequest, strings.Join(faults, "; "), faults}
	}
	return c.runtimeConfig()
}

// faultsOf takes joined errors apart.
func faultsOf(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, faultsOf(e)...)
		}
		return all
	}
	return []string{err.Error()}
}

// body reads the whole body, within the limit of the verb.
func (c *call) body() ([]byte, error) {
	text, err := io.ReadAll(c.r.Body)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return text, nil
}

// logLevel answers GET /loglevel.
func (c *call) logLevel() error {
	if c.sources.Levels == nil {
		return missing("log levels")
	}
	return c.answer(levelsAnswer(c.sources.Levels))
}

// levelAliases are names that other agents have for a level.
var levelAliases = map[string]string{"warning": "warn", "fatal": "error"}

// setLogLevel answers POST /loglevel.
func (c *call) setLogLevel() error {
	if c.sources.Levels == nil {
		return missing("log levels")
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(body))
	if text == "" {
		return c.logLevel()
	}
	if alias, ok := levelAliases[strings.ToLower(text)]; ok {
		text = alias
	}
	spec, err := logging.ParseSpec(text)
	if err != nil {
		writeJSON(c.w, http.StatusBadRequest, map[string]string{"error": "Invalid log level " + quote(text) + ": " + err.Error(), "status": "Error"})
		c.change = "refused level " + quote(text)
		return nil
	}
	c.change = "log level from " + c.sources.Levels.Spec().String() + " to " + spec.String()
	c.sources.Levels.Set(spec)
	return c.answer(map[string]string{"status": "Ok"})
}

package gvisor

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// DefaultEndpoint is where session files point if nothing else is said.
const DefaultEndpoint = "/run/sonde/gvisor.sock"

// senderRetries is how often a sandbox tries a message again whose socket is full,
// 25 µs and longer apart. A burst overflows the socket of a reader that never
// sleeps, and three tries save nearly all of it; many would turn a monitor that is
// slow into a workload that is.
const senderRetries = 3

// sessionFile is the argument of runsc --pod-init-config.
type sessionFile struct {
	Session session `json:"trace_session"`
}

type session struct {
	Name          string         `json:"name"`
	IgnoreMissing bool           `json:"ignore_missing"`
	Points        []sessionPoint `json:"points"`
	Sinks         []sessionSink  `json:"sinks"`
}

type sessionPoint struct {
	Name           string   `json:"name"`
	OptionalFields []string `json:"optional_fields,omitempty"`
	ContextFields  []string `json:"context_fields"`
}

type sessionSink struct {
	Name             string         `json:"name"`
	Config           map[string]any `json:"config"`
	IgnoreSetupError bool           `json:"ignore_setup_error"`
}

// contextFields is what every point says of who caused it.
var contextFields = []string{
	"time", "thread_id", "task_start_time", "group_id", "thread_group_start_time", "container_id",
	"credentials", "cwd", "process_name", "parent_thread_group_id", "is_exec_session",
}

// sessionPoints are the points whose messages become events. Environments are left
// out: they hold secrets.
var sessionPoints = []string{
	"container/start", "sentry/clone", "sentry/execve", "sentry/exit_notify_parent",
	"syscall/accept/exit", "syscall/accept4/exit", "syscall/connect/exit", "syscall/listen/exit",
}

// SessionFile writes the session that makes a sandbox report to an endpoint, as
// runsc --pod-init-config and runsc trace create take it. It passes over what a
// version of gVisor does not have, without which one unknown name would silence
// all of it; and a container starts also where nobody listens.
func SessionFile(endpoint string) ([]byte, error) {
	f := sessionFile{session{Name: "Default", IgnoreMissing: true, Sinks: []sessionSink{{
		Name: "remote", Config: map[string]any{"endpoint": endpoint, "retries": senderRetries}, IgnoreSetupError: true,
	}}}}
	for _, name := range sessionPoints {
		p := sessionPoint{Name: name, ContextFields: contextFields}
		if name == "sentry/execve" {
			p.OptionalFields = []string{"binary_info"}
		}
		f.Session.Points = append(f.Session.Points, p)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("write session: %w", err)
	}
	return b.Bytes(), nil
}

package stream

import (
	"errors"
	"fmt"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Session says which events are wanted and where they go. It is what session files
// describe; ParseSession reads one.
type Session struct {
	Name   string
	Points []Point
	Sinks  []SinkConfig
}

// Point is one point that a session wants events of.
type Point struct {
	Name   string // as it was asked for
	Point  event.Point
	Call   event.CallPoint // of event.Syscall: which
	Fields event.Fields
	Filter Filter
}

// SinkConfig says where the events of a session go.
type SinkConfig struct {
	Name   string         `json:"name"`
	Config map[string]any `json:"config,omitempty"`
	// IgnoreSetupError lets the session begin without a sink that cannot be opened.
	IgnoreSetupError bool `json:"ignore_setup_error,omitempty"`
}

// Bounds of sessions. The two of them bound the labels "session" and "sink".
const (
	MaxSessions = 16
	MaxSinks    = 8 // of one session
	MaxPoints   = 2048
	maxNameLen  = 64
)

// validate returns every fault that does not depend on what else there is.
func (s *Session) validate() error {
	var faults []error
	if !validName(s.Name) {
		faults = append(faults, fmt.Errorf("name %q: write 1 to %d letters, digits, dots, dashes or underscores", s.Name, maxNameLen))
	}
	if len(s.Points) == 0 || len(s.Points) > MaxPoints {
		faults = append(faults, fmt.Errorf("%d points: write 1 to %d", len(s.Points), MaxPoints))
	}
	if len(s.Sinks) == 0 || len(s.Sinks) > MaxSinks {
		faults = append(faults, fmt.Errorf("%d sinks: write 1 to %d", len(s.Sinks), MaxSinks))
	}
	return errors.Join(faults...)
}

func validName(name string) bool {
	if name == "" || len(name) > maxNameLen {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

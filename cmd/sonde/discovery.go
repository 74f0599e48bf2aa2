package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// discovery is what <run dir>/sonde.json tells about the running agent: it is
// how the verbs find it.
type discovery struct {
	PID       int                 `json:"pid"`
	Version   string              `json:"version"`
	Started   time.Time           `json:"started"`
	Addresses map[string][]string `json:"addresses"` // by listener
	PinDir    string              `json:"pin_dir"`
	StateDir  string              `json:"state_dir"`
}

// The listeners of the agent.
const (
	listenerMetrics    = "metrics"
	listenerIntrospect = "introspect"
)

func discoveryPath(runDir string) string { return filepath.Join(runDir, "sonde.json") }

// announce writes the file as a whole, so that a reader never sees half of it.
func announce(runDir string, d discovery) error {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("encode discovery file: %w", err)
	}
	path := discoveryPath(runDir)
	temp := fmt.Sprintf("%s.%d", path, d.PID)
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write discovery file: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("write discovery file: %w", err), os.Remove(temp))
	}
	return nil
}

// withdraw removes the file if it is still that of the given process: an
// instance with another pin directory may have taken its place.
func withdraw(runDir string, pid int) error {
	data, err := os.ReadFile(discoveryPath(runDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read discovery file: %w", err)
	}
	var d discovery
	if err := json.Unmarshal(data, &d); err != nil || d.PID != pid {
		return nil //nolint:nilerr // not ours
	}
	return os.Remove(discoveryPath(runDir))
}

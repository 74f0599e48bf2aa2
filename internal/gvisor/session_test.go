package gvisor

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestSessionFile: a session that cannot keep a container from starting, nor fall
// silent because of a name.
func TestSessionFile(t *testing.T) {
	text, err := SessionFile("/run/<x>.sock")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	var f sessionFile
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	s := f.Session
	if s.Name != "Default" || !s.IgnoreMissing { // the only name that gVisor knows
		t.Errorf("session %q, ignore_missing %v", s.Name, s.IgnoreMissing)
	}
	if len(s.Sinks) != 1 || s.Sinks[0].Name != "remote" || s.Sinks[0].Config["endpoint"] != "/run/<x>.sock" || !s.Sinks[0].IgnoreSetupError {
		t.Errorf("sinks %+v", s.Sinks)
	}
	if retries, ok := s.Sinks[0].Config["retries"].(float64); !ok || retries != senderRetries {
		t.Errorf("retries %v", s.Sinks[0].Config["retries"])
	}
	for _, p := range s.Points {
		if slices.Contains(p.OptionalFields, "env") || slices.Contains(p.OptionalFields, "envv") || !slices.Contains(p.ContextFields, "container_id") {
			t.Errorf("point %+v", p)
		}
	}
	if len(s.Points) != len(sessionPoints) {
		t.Errorf("%d points", len(s.Points))
	}
	if !strings.Contains(string(text), "/run/<x>.sock") {
		t.Errorf("the path is escaped:\n%s", text)
	}
}

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/stream"
)

// What the help says that an event takes in a queue is what it takes.
func TestQueueFormula(t *testing.T) {
	q := stream.DefaultQueue
	want := fmt.Sprintf("queue-events x %d B", (q.Bytes()-uint64(q.TextBytes))/uint64(q.Events))
	if !slices.ContainsFunc(limitFlags(), func(f *setting) bool { return strings.Contains(f.help, want) }) {
		t.Errorf("no flag says %q", want)
	}
}

// The line at the start names the sessions, and shows nothing that they are given.
func TestStartLogNamesSessionsOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sonde.yaml")
	text := "sessions: [{name: audit, points: [{name: process/exec, filter: {argument: [hunter2]}}], sinks: [{name: 'null'}]}]"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCLI(io.Discard)
	if _, err := c.app.Parse([]string{"run", "--config.file=" + file}); err != nil {
		t.Fatal(err)
	}
	config, err := c.run.load()
	if err != nil {
		t.Fatal(err)
	}
	if line := fmt.Sprint(c.run.logValues(config)); !strings.Contains(line, "audit") || strings.Contains(line, "hunter2") {
		t.Errorf("the start is logged with %s", line)
	}
}

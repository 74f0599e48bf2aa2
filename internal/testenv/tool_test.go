package testenv

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTool: the pinned promtool is built, runs, and knows its version.
func TestTool(t *testing.T) {
	if testing.Short() {
		t.Skip("may build promtool for minutes, and -short was asked for")
	}
	output, err := exec.Command(Tool(t, "promtool"), "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(output), "promtool, version 3.") {
		t.Errorf("promtool --version: %v\n%s", err, output)
	}
}

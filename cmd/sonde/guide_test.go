package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/config"
)

// TestDocumentedCommands parses every command of the sensor that a page tells its
// reader to type: verbs and flags exist, values are complete.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		shell := false
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "```") {
				shell = strings.TrimSpace(line) == "```sh"
				continue
			}
			_, command, is := strings.Cut(" "+strings.TrimSpace(line), " sonde ") // kubectl's exec ends in a path
			if _, inPod, has := strings.Cut(line, "/usr/bin/sonde "); has {
				command, is = inPod, true
			} else if !strings.HasPrefix(line, "sonde ") {
				is = false
			}
			if !shell || !is {
				continue
			}
			n++
			if _, err := newCLI(io.Discard).app.Parse(strings.Fields(command)); err != nil {
				t.Errorf("%s: sonde %s: %v", filepath.Base(page), strings.TrimSpace(command), err)
			}
		}
	}
	if n < 8 {
		t.Errorf("only %d commands were found", n)
	}
}

// TestDocumentedConfigurations: what a page shows as configuration file is one, in all
// its parts.
func TestDocumentedConfigurations(t *testing.T) {
	for _, page := range []string{"configure.md", "sessions.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, found := strings.Cut(string(text), "\n```yaml\n")
		if !found {
			t.Errorf("%s shows no configuration", page)
		}
		for ; found; _, rest, found = strings.Cut(rest, "\n```yaml\n") {
			var file string
			file, rest, _ = strings.Cut(rest, "\n```\n")
			c := config.New(defaultCollectors(false))
			err := c.Read(page, []byte(file))
			if err == nil {
				_, err = listedSessions(c.Runtime.Sessions)
			}
			if err != nil {
				t.Errorf("%v in\n%s", err, file)
			}
		}
	}
}

// TestDeployedCommands: what the unit and the DaemonSet start is a command line that
// the sensor accepts.
func TestDeployedCommands(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/systemd/sonde.service")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(unit), "\nExecStart=/usr/bin/sonde ")
	command, _, _ = strings.Cut(command, "\n")
	manifest, err := os.ReadFile("../../deploy/kubernetes/sonde.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(manifest), "\n          args:\n")
	var args []string
	for line := range strings.Lines(list) {
		arg, is := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !is {
			break
		}
		args = append(args, arg)
	}
	for name, args := range map[string][]string{"unit": strings.Fields(command), "DaemonSet": args} {
		c := newCLI(io.Discard)
		verb, err := c.app.Parse(args)
		if err != nil || verb != "run" {
			t.Errorf("%s: %q: verb %q, %v", name, args, verb, err)
			continue
		}
		if _, err := c.run.load(); err != nil {
			t.Errorf("%s: %q: %v", name, args, err)
		}
	}
}

// TestTroubleshootCoversExitCodes: every code that a failure ends with has its row.
func TestTroubleshootCoversExitCodes(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshoot.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exitCodes {
		if e.code == exitOK || e.code == exitUnexpected || e.code == exitSignal {
			continue
		}
		if !regexp.MustCompile(`(?m)^\| ` + e.text + ` \|`).Match(text) {
			t.Errorf("exit code %s has no row", e.text)
		}
	}
}

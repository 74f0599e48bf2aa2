package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// unitFile is the unit for systemd, privilegesPage has the context for containers.
const (
	unitFile       = "../../deploy/systemd/sonde.service"
	privilegesPage = "../../docs/privileges.md"
)

// What is deployed with gives the capabilities that the sensor asks for, and no other.
func TestDeployedCapabilities(t *testing.T) {
	var want []string
	for _, c := range needed {
		want = append(want, c.name)
	}
	for _, c := range useful {
		if !c.old {
			want = append(want, c.name)
		}
	}
	slices.Sort(want)
	for path, lists := range map[string]string{
		unitFile:       `(?m)^CapabilityBoundingSet=(.*)$`,
		privilegesPage: `(?m)^ +add: \[(.*)\]$`,
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, list := range regexp.MustCompile(lists).FindAllStringSubmatch(string(text), -1) {
			for _, name := range strings.FieldsFunc(list[1], func(r rune) bool { return r == ' ' || r == ',' }) {
				got = append(got, "CAP_"+strings.TrimPrefix(name, "CAP_"))
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// systemd understands the unit and calls it well confined.
func TestServiceUnit(t *testing.T) {
	const most = "40" // of an exposure of 100; a service as it comes has 96
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		testenv.Skip(t, "needs systemd-analyze")
	}
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable() // the unit's own may not be installed
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "sonde.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), "ExecStart=/usr/bin/sonde", "ExecStart="+self, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", "--man=no", unit}, {"security", "--no-pager", "--offline=yes", "--threshold=" + most, unit}} {
		if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}

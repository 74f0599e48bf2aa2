package lawtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Whatever a workflow does is a make target, so that it can be done anywhere.
func TestWorkflowsRunMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("workflows: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var workflow struct {
			Permissions map[string]string
			Jobs        map[string]struct {
				Timeout int `yaml:"timeout-minutes"`
				Steps   []struct{ Run, Uses string }
			}
		}
		if err := yaml.Unmarshal(text, &workflow); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(workflow.Permissions) == 0 || len(workflow.Jobs) == 0 {
			t.Errorf("%s: no permissions, or no jobs", file)
		}
		for name, job := range workflow.Jobs {
			if job.Timeout == 0 || len(job.Steps) == 0 {
				t.Errorf("%s: job %s has no time limit, or no steps", file, name)
			}
			for _, step := range job.Steps {
				if step.Run == "" {
					continue
				}
				target, ok := strings.CutPrefix(step.Run, "make ")
				target, _, _ = strings.Cut(target, " ")
				if !ok || !regexp.MustCompile("(?m)^"+regexp.QuoteMeta(target)+":").Match(makefile) {
					t.Errorf("%s: %q is no target of the Makefile", file, step.Run)
				}
			}
		}
	}
}

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/introspect"
)

// fakeNodeProfiles notes what it was asked for.
type fakeNodeProfiles struct{ asked profile.Request }

func (f *fakeNodeProfiles) Record(_ context.Context, r profile.Request) ([]byte, error) {
	f.asked = r
	return []byte("profile of the node"), nil
}

// TestProfileVerbs writes profiles to files, which nobody else may read, and to
// standard output.
func TestProfileVerbs(t *testing.T) {
	node := &fakeNodeProfiles{}
	address := fakeSensor(t, func(s *introspect.Sources) { s.Self, s.Node = profile.NewSelf(), node })
	t.Chdir(t.TempDir())
	for _, tc := range []struct {
		args   string
		code   exitCode
		stdout string
		stderr string
	}{
		{"node --seconds=7 --hz=50 --pid=12 -o n.pb.gz", exitOK, "wrote n.pb.gz (19 bytes); to look at it: go tool pprof -http=: n.pb.gz\n", ""},
		{"node --seconds=0", exitNoAnswer, "", `parameter seconds is "0"`},
		{"node --container=dddddddddddd", exitNoAnswer, "", "404"},
		{"node -o -", exitOK, "profile of the node", ""},
		{"node -o absent/n", exitUnexpected, "", "write profile: open absent/n"},
		{"heap on", exitOK, "heap  on\ncpu   empty\n", ""},
		{"heap on", exitNoAnswer, "", "409 Conflict: the record is on already"},
		{"heap off --json", exitOK, `"heap": "off"`, ""},
		{"heap -o h.pb.gz --json", exitOK, `"file": "h.pb.gz"`, ""},
		{"heap --seconds=1 -o s.pb.gz", exitOK, "wrote s.pb.gz", ""},
		{"cpu", exitNoAnswer, "", "409 Conflict: the record is empty: switch it on"},
		{"cpu --seconds=1 -o c.pb.gz", exitOK, "wrote c.pb.gz", ""},
		{"cpu maybe", exitUsage, "", "enum value must be one of on,off,empty"},
	} {
		code, stdout, stderr := sonde(t, append(append([]string{"profile"}, strings.Fields(tc.args)...), "--address="+address)...)
		if code != int(tc.code) || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
			t.Errorf("profile %s: exit code %d\n%s%s\nwant %d, %q, %q", tc.args, code, stdout, stderr, tc.code, tc.stdout, tc.stderr)
		}
		if strings.Contains(tc.args, "n.pb.gz") {
			want := profile.Request{Duration: 7 * time.Second, Hz: 50, PID: 12, Over: 10 * time.Millisecond}
			if diff := cmp.Diff(want, node.asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		}
	}
	for _, name := range []string{"n.pb.gz", "h.pb.gz", "s.pb.gz", "c.pb.gz"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != profileMode {
			t.Errorf("%s: %v, %v, want mode %o", name, info, err, profileMode)
			continue
		}
		if raw, _ := os.ReadFile(name); name != "n.pb.gz" {
			if _, err := pprof.ParseData(raw); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestProfileNames: a file that was not named is new, and named after the time.
func TestProfileNames(t *testing.T) {
	address := fakeSensor(t, func(s *introspect.Sources) { s.Node = &fakeNodeProfiles{} })
	t.Chdir(t.TempDir())
	if code, _, stderr := sonde(t, "profile", "node", "--address="+address); code != 0 {
		t.Fatal(stderr)
	}
	if found, err := filepath.Glob("sonde-node-2*Z.pb.gz"); err != nil || len(found) != 1 {
		t.Errorf("files %q, %v", found, err)
	}
}

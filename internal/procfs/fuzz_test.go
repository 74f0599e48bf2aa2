package procfs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParsers holds every parser to one law: any input gives a value or an
// error, never a panic, and sizes that the input cannot carry are not invented.
func FuzzParsers(f *testing.F) {
	for _, pattern := range []string{"*/proc/self/*", "*/root/sys/fs/cgroup/*.*", "*/root/sys/fs/cgroup/*/*.*", "*/root/sys/fs/cgroup/*/*/*.*"} {
		files, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil {
				f.Add(data)
			}
		}
	}
	f.Add([]byte("none [integrity] confidentiality"))
	f.Add([]byte("CapEff:\tffff\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mounts, err := parseMountinfo(bytes.NewReader(data))
		if err == nil && len(mounts) > bytes.Count(data, []byte("\n"))+1 {
			t.Errorf("%d mounts from %q", len(mounts), data)
		}
		members, err := parseCgroup(bytes.NewReader(data))
		if err == nil && len(members) > bytes.Count(data, []byte("\n"))+1 {
			t.Errorf("%d memberships from %q", len(members), data)
		}
		stalls, _ := parsePressure(bytes.NewReader(data))
		for _, p := range stalls {
			if p.Time < 0 {
				t.Errorf("negative pressure from %q", data)
			}
		}
		if limit, err := parseLimitV2(bytes.NewReader(data)); err != nil && limit != nil && *limit != 0 && *limit != 1<<64-1 {
			t.Errorf("limit %d beside error %v", *limit, err)
		}
		if mode, err := parseLockdown(bytes.NewReader(data)); err == nil && mode == "" {
			t.Errorf("empty mode from %q", data)
		}
		_, _ = parseCapabilities(bytes.NewReader(data))
		_, _ = parseProcessStat(bytes.NewReader(data))
		_, _ = parseFlat(bytes.NewReader(data))
		_, _, _ = KernelVersion(string(data))
	})
}

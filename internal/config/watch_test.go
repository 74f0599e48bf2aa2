package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watched is a file under watch.
type watched struct {
	*testing.T
	dir, path string
	versions  chan FileVersion // what Watch has told of
	seen      FileVersion
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{T: t, dir: filepath.Dir(path), path: path, versions: make(chan FileVersion, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, path, func() { w.versions <- StatFile(path) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w.seen = <-w.versions
	return w
}

// tells waits until Watch has told of the file as it is now.
func (w *watched) tells(of string) {
	w.Helper()
	now := StatFile(w.path)
	if now == w.seen {
		w.Fatalf("%s: the file is the same as before", of)
	}
	deadline := time.After(30 * time.Second)
	for w.seen != now {
		select {
		case w.seen = <-w.versions:
		case <-deadline:
			w.Fatalf("%s: not told of", of)
		}
	}
}

func (w *watched) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *watched) write(path, text string) {
	w.Helper()
	w.must(os.WriteFile(filepath.Join(w.dir, path), []byte(text), 0o600))
}

// TestWatchFile: made, written in place, appended to, replaced, removed, made again,
// and all that with its directory too.
func TestWatchFile(t *testing.T) {
	root := t.TempDir()
	w := watch(t, filepath.Join(root, "etc", "sonde", "sonde.yaml"))
	w.must(os.MkdirAll(w.dir, 0o700))
	w.write("sonde.yaml", "a")
	w.tells("made, and its directories")
	w.write("sonde.yaml", "bb")
	w.tells("written in place")
	w.write("other", "x")
	w.write("new", "c")
	w.must(os.Rename(filepath.Join(w.dir, "new"), w.path))
	w.tells("replaced")
	w.must(os.Remove(w.path))
	w.tells("removed")
	w.write("sonde.yaml", "d")
	w.tells("made again")
	w.must(os.Rename(filepath.Join(root, "etc"), filepath.Join(root, "old")))
	w.tells("moved away with the directory above")
	w.must(os.MkdirAll(w.dir, 0o700))
	w.write("sonde.yaml", "eeee")
	w.tells("made again with its directories")
	w.must(os.RemoveAll(w.dir))
	w.tells("removed with its directory")
}

// TestWatchConfigMap does what a kubelet does: the file is a link into ..data, which
// is a link to a directory with the time in its name, and is swapped as a whole.
func TestWatchConfigMap(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "sonde.yaml"))
	swap := func(version, text string) {
		w.must(os.Mkdir(filepath.Join(w.dir, version), 0o700))
		w.write(version+"/sonde.yaml", text)
		w.must(os.Symlink(version, filepath.Join(w.dir, "..data_tmp")))
		w.must(os.Rename(filepath.Join(w.dir, "..data_tmp"), filepath.Join(w.dir, "..data")))
	}
	swap("..2026_01", "a")
	w.must(os.Symlink("..data/sonde.yaml", w.path))
	w.tells("made")
	swap("..2026_02", "b")
	w.must(os.RemoveAll(filepath.Join(w.dir, "..2026_01")))
	w.tells("swapped")
	w.write("..data/sonde.yaml", "in place")
	w.tells("written behind the links")
	swap("..2026_03", "c")
	w.tells("swapped again")
	w.must(os.Remove(filepath.Join(w.dir, "..data")))
	w.tells("removed")
	w.must(os.Symlink("..2026_02", filepath.Join(w.dir, "..data")))
	w.tells("back")
}

// TestWatchSettles: many changes in a row are told of once or twice, not each.
func TestWatchSettles(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "sonde.yaml"))
	for i := range 200 {
		w.write("sonde.yaml", string(make([]byte, i+1)))
	}
	w.tells("written 200 times")
	if n := len(w.versions); n > 20 {
		t.Errorf("told of %d times more", n)
	}
}

func TestWay(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"a": "b/../c", "c": dir + "/d", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	above := len(way(dir))
	for path, want := range map[string][]string{
		"a/x/y": {"a", "b", "c", "", "d"}, // "" is dir itself, reached anew through the absolute link
		"no/x":  {"no"},
		"b":     {"b"},
	} {
		var got []string
		for _, entry := range way(filepath.Join(dir, path))[above:] {
			relative, err := filepath.Rel(dir, entry)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case relative == ".":
				relative = ""
			case len(entry) < len(dir):
				continue
			}
			got = append(got, relative)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if n := len(way(filepath.Join(dir, "loop"))); n > above+maxLinks+1 {
		t.Errorf("a loop of links has %d entries", n)
	}
}

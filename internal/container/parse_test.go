package container

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// layout is one file of testdata/layouts: what each cgroup of a tree is.
type layout struct {
	name  string
	paths []string          // in the order of the file
	want  map[string]string // by path, in the words of describe
}

func layouts(t testing.TB) (all []layout) {
	t.Helper()
	files, err := filepath.Glob("testdata/layouts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no layouts: %v", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		l := layout{name: strings.TrimSuffix(filepath.Base(file), ".txt"), want: map[string]string{}}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "#") {
				continue
			}
			path, what, ok := strings.Cut(lines.Text(), " = ")
			if !ok {
				t.Fatalf("%s: line %q", file, lines.Text())
			}
			l.paths = append(l.paths, path)
			l.want[path] = what
		}
		_ = f.Close()
		all = append(all, l)
	}
	return all
}

// describe says in the layouts' words what a path was taken for.
func describe(ref Ref, ok bool) string {
	switch {
	case !ok:
		return "host"
	case ref.Guess:
		return "guess " + ref.ID.String()
	case ref.PodUID != "":
		return fmt.Sprintf("%s %s pod %s", ref.Runtime, ref.ID.Short(), ref.PodUID)
	}
	return fmt.Sprintf("%s %s", ref.Runtime, ref.ID.Short())
}

// TestParse: every cgroup of every layout is what the file says.
func TestParse(t *testing.T) {
	for _, l := range layouts(t) {
		t.Run(l.name, func(t *testing.T) {
			got := map[string]string{}
			for _, path := range l.paths {
				ref, ok := Parse(path)
				got[path] = describe(ref, ok)
			}
			if diff := cmp.Diff(l.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestParseInNamespace: the same paths, seen from a cgroup namespace two levels
// down, name the same containers; only a guess needs to begin at the root.
func TestParseInNamespace(t *testing.T) {
	for _, l := range layouts(t) {
		for _, path := range l.paths {
			want := l.want[path]
			if strings.HasPrefix(want, "guess") {
				want = "host"
			}
			if ref, ok := Parse("/../.." + path); describe(ref, ok) != want {
				t.Errorf("%s: /../..%s is %s, want %s", l.name, path, describe(ref, ok), want)
			}
		}
	}
}

// TestWalk lays the layouts out as directories and wants the walk to find every
// one, under its own inode number.
func TestWalk(t *testing.T) {
	for _, l := range layouts(t) {
		t.Run(l.name, func(t *testing.T) {
			top := t.TempDir()
			for _, path := range l.paths {
				if err := os.MkdirAll(top+path, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			found := map[string]uint64{}
			if err := walk(t.Context(), top, func(id uint64, path string) { found[path] = id }); err != nil {
				t.Fatal(err)
			}
			for _, path := range append(slices.Clone(l.paths), "/") {
				if id, err := inode(top + path); err != nil || found[path] != id {
					t.Errorf("%s: id %d, want %d (%v)", path, found[path], id, err)
				}
			}
		})
	}
}

// TestRootOf: a cgroup below a container is led back to the container's own.
func TestRootOf(t *testing.T) {
	for _, l := range layouts(t) {
		for _, path := range l.paths {
			ref, ok := Parse(path)
			if !ok {
				continue
			}
			root := rootOf(path, ref)
			if again, _ := Parse(root); again.ID != ref.ID || !strings.HasPrefix(path, root) {
				t.Errorf("%s: root %s is %v", path, root, again)
			}
			if parent, ok := Parse(filepath.Dir(root)); ok && parent.ID == ref.ID {
				t.Errorf("%s: root %s is below the container's own", path, root)
			}
		}
	}
}

func TestShort(t *testing.T) {
	drawn := ID{Name: strings.Repeat("0123456789abcdef", 4)}
	for id, want := range map[ID]string{drawn: "0123456789ab", {Namespace: "demo", Name: "a-long-name-of-its-own"}: "demo/a-long-name-of-its-own", {}: ""} {
		if got := id.Short(); got != want {
			t.Errorf("%+v: %q, want %q", id, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, l := range layouts(f) {
		for _, path := range l.paths {
			f.Add(path)
		}
	}
	f.Add("/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z")
	f.Add(":docker:" + strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, path string) {
		ref, ok := Parse(path)
		switch {
		case !ok && ref != Ref{}:
			t.Errorf("%+v beside not ok", ref)
		case !ok:
			return
		case ref.Guess != (ref.ID.Namespace != ""):
			t.Errorf("guess and namespace disagree: %+v", ref)
		case !ref.Guess && !isDrawn(ref.ID.Name):
			t.Errorf("id %q", ref.ID.Name)
		}
		if !strings.Contains(path, ref.ID.Name) {
			t.Errorf("id %q is not in the path", ref.ID.Name)
		}
		if root := rootOf(path, ref); !strings.HasPrefix(path, root) {
			t.Errorf("root %q is no part of the path", root)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	path := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod11111111_2222_3333_4444_555555555555.slice/cri-containerd-" +
		strings.Repeat("0123456789abcdef", 4) + ".scope"
	for b.Loop() {
		if _, ok := Parse(path); !ok {
			b.Fatal("not recognised")
		}
	}
}

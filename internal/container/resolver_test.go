package container

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// newTestResolver is a resolver on this machine's cgroups, and the containers it
// has reported.
func newTestResolver(t *testing.T) (*resolver, map[string]string) {
	t.Helper()
	testenv.Root(t)
	view, err := Discover("/proc", "")
	if err != nil {
		t.Fatal(err)
	}
	if !view.Visible() {
		testenv.Skip(t, "cgroups are not visible: "+view.Hint)
	}
	reported := map[string]string{}
	return newResolver("/proc", view, 1024, 1024, 1, func(ref Ref, path string) { reported[ref.ID.Name] = path }), reported
}

// makeCgroup makes a cgroup below a tree, with a container's id for a name.
func makeCgroup(t *testing.T, tree string, n int) (path string, id ID) {
	t.Helper()
	if tree == "" {
		testenv.Skip(t, "this machine has no such cgroup tree")
	}
	id = drawn(os.Getpid()<<16 | n)
	path = "/sonde-test-" + strconv.Itoa(os.Getpid()) + "/docker/" + id.Name
	if err := os.MkdirAll(tree+path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for dir := path; dir != "/"; dir = filepath.Dir(dir) {
			until(t, dir+" is empty", func() bool { err := unix.Rmdir(tree + dir); return err != unix.EBUSY })
		}
	})
	return path, id
}

// child is a process that waits, in the given cgroup if it is not empty.
func child(t *testing.T, cgroup string) event.Process {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test may have done it
		_ = cmd.Wait()
	})
	if cgroup != "" {
		if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	stat, err := procfs.New(procfs.Options{}).ProcessStat(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return event.Process{PID: uint32(cmd.Process.Pid), StartNS: stat.Start*procfs.TickNS + 77}
}

// ways are how a cgroup is found that is not known: by its id, or where that is not
// allowed by a search.
var ways = []struct {
	name string
	set  func(*resolver)
}{
	{"at once", func(*resolver) {}},
	{"searched", func(r *resolver) { r.byID = func(string, uint64) (string, error) { return "", unix.EPERM } }},
}

// TestResolveV2: by the id of the cgroup alone, whether the process lives or not.
func TestResolveV2(t *testing.T) {
	for n, test := range []struct {
		name string
		pid  uint32
	}{{"alive", 0}, {"gone", 1 << 22}} {
		for m, way := range ways {
			t.Run(test.name+" "+way.name, func(t *testing.T) {
				r, reported := newTestResolver(t)
				r.view.HasV1 = false // as on a machine of today
				way.set(r)
				path, id := makeCgroup(t, r.view.V2, 2*n+m)
				p := event.Process{PID: test.pid, StartNS: 1}
				if test.pid == 0 {
					p = child(t, r.view.V2+path)
				}
				p.CgroupID, _ = inode(r.view.V2 + path)
				if way.name == "searched" {
					if g := r.resolve(&p, false); g.place != Searching {
						t.Fatalf("before anybody has looked: %+v", g)
					}
					r.resolve(&p, false)
					if len(r.misses) != 1 {
						t.Fatalf("%d misses from two questions about one cgroup", len(r.misses))
					}
					if err := r.find(t.Context(), <-r.misses); err != nil {
						t.Fatal(err)
					}
				}
				if g := r.resolve(&p, false); g.place != Inside || g.ref.ID != id || g.ref.Runtime != Docker || len(r.misses) > 0 {
					t.Errorf("%+v", g)
				}
				if reported[id.Name] != path {
					t.Errorf("reported at %q, want %q", reported[id.Name], path)
				}
				if n := testing.AllocsPerRun(100, func() { r.resolve(&p, false) }); n != 0 {
					t.Errorf("%v allocations for a cgroup that is known", n)
				}
			})
		}
	}
}

// TestResolveLost: a cgroup that is gone is looked for once.
func TestResolveLost(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			r, _ := newTestResolver(t)
			r.view.HasV1 = false
			way.set(r)
			if r.view.root == 0 {
				testenv.Skip(t, "this machine has no cgroup v2")
			}
			p := event.Process{PID: 1 << 22, StartNS: 1, CgroupID: 1 << 60}
			r.resolve(&p, false)
			if way.name == "searched" {
				if err := r.find(t.Context(), <-r.misses); err != nil {
					t.Fatal(err)
				}
			}
			if g := r.resolve(&p, false); g.place != Host || r.lost.Load() != 1 || len(r.misses) != 0 {
				t.Errorf("%+v, %d lost, %d misses", g, r.lost.Load(), len(r.misses))
			}
		})
	}
}

// TestResolveIDs: a process by the ids of its cgroups in both hierarchies. None of
// what is asked about is there: /proc could tell nothing.
func TestResolveIDs(t *testing.T) {
	r, reported := newTestResolver(t)
	inV1, id := makeCgroup(t, r.view.V1, 1)
	inV2, idV2 := makeCgroup(t, r.view.V2, 2)
	v1, _ := inode(r.view.V1 + inV1)
	rootV1, _ := inode(r.view.V1)
	v2, _ := inode(r.view.V2 + inV2)
	for _, test := range []struct {
		name   string
		v2, v1 uint64
		place  Place
		id     ID
	}{
		{"v1", r.view.root, v1, Inside, id}, {"v2", v2, rootV1, Inside, idV2}, {"both", v2, v1, Inside, idV2},
		{"neither", r.view.root, rootV1, Host, ID{}}, {"gone", r.view.root, 1 << 60, Host, ID{}},
	} {
		p := event.Process{PID: 1 << 22, StartNS: 1, CgroupID: test.v2, CgroupV1: test.v1}
		if g := r.resolve(&p, true); g.place != test.place || g.ref.ID != test.id {
			t.Errorf("%s: %+v", test.name, g)
		}
		if n := testing.AllocsPerRun(100, func() { r.resolve(&p, true) }); n != 0 {
			t.Errorf("%s: %v allocations for cgroups that are known", test.name, n)
		}
	}
	if reported[id.Name] != inV1 || r.processes.stats().Entries > 0 || r.lost.Load() != 1 {
		t.Errorf("reported at %q, %d lost, %+v", reported[id.Name], r.lost.Load(), r.processes.stats())
	}
}

func resides(r *resolver, v2, v1 uint64) group {
	g, _ := r.reside(&event.Process{CgroupID: v2, CgroupV1: v1})
	return g
}

// TestResolveV1: a container in a v1 tree only, found through /proc, where events have
// no id of that, and remembered for the process and its children.
func TestResolveV1(t *testing.T) {
	r, reported := newTestResolver(t)
	path, id := makeCgroup(t, r.view.V1, 1)
	p := child(t, r.view.V1+path)
	p.CgroupID = r.view.root
	if g := r.resolve(&p, false); g.place != Inside || g.ref.ID != id || reported[id.Name] != path {
		t.Errorf("%+v, reported at %q", g, reported[id.Name])
	}
	young := event.Process{PID: 1 << 22, StartNS: 5, CgroupID: p.CgroupID}
	r.fork(&p, &young)
	if g := r.resolve(&young, false); g.place != Inside {
		t.Errorf("its child: %+v", g)
	}
	if n := testing.AllocsPerRun(100, func() { r.resolve(&p, false) }); n != 0 {
		t.Errorf("%v allocations for a process that is known", n)
	}

	t.Run("by its cgroup", func(t *testing.T) {
		v1, _ := inode(r.view.V1 + path)
		ways[1].set(r)
		if g := resides(r, r.view.root, v1); g.place != Inside || g.ref.ID != id {
			t.Errorf("seen at an event: %+v", g)
		}
		if g := resides(r, r.view.root, v1+1<<40); g.place != Searching {
			t.Errorf("one that was never seen: %+v", g)
		}
		root, _ := inode(r.view.V1)
		if _, err := r.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g := resides(r, r.view.root, root); g.place != Host {
			t.Errorf("the root: %+v", g)
		}
		if r.view.V1Controller == "" {
			t.Errorf("%s has no controller", r.view.V1)
		}
	})
	t.Run("exec", func(t *testing.T) {
		// A runtime's child: on the host, then in the container, then exec.
		p := child(t, "")
		p.CgroupID = r.view.root
		if g := r.resolve(&p, false); g.place == Inside {
			t.Fatalf("before it moves: %+v", g)
		}
		if err := os.WriteFile(filepath.Join(r.view.V1+path, "cgroup.procs"), []byte(strconv.Itoa(int(p.PID))), 0); err != nil {
			t.Fatal(err)
		}
		if g := r.resolve(&p, true); g.place != Inside {
			t.Errorf("at its exec: %+v", g)
		}
	})
	t.Run("another process", func(t *testing.T) {
		stale := p
		stale.StartNS -= 10 * procfs.TickNS
		if g := r.resolve(&stale, false); g.place == Inside {
			t.Errorf("a process whose pid was used again: %+v", g)
		}
	})
}

// TestSweep: what has a cgroup is alive, what has none any more is forgotten.
func TestSweep(t *testing.T) {
	r, _ := newTestResolver(t)
	v2, first := makeCgroup(t, r.view.V2, 1)
	alive, err := r.sweep(t.Context())
	if err != nil || !alive[first] {
		t.Fatalf("%v, %v", alive, err)
	}
	before := r.groups.stats().Entries
	id, _ := inode(r.view.V2 + v2)
	if err := os.Remove(r.view.V2 + v2); err != nil {
		t.Fatal(err)
	}
	if alive, err = r.sweep(t.Context()); err != nil || alive[first] {
		t.Errorf("after its end: %v, %v", alive, err)
	}
	if g, ok := r.groups.get(id); !ok || g.place != Inside {
		t.Errorf("an event that comes late finds %+v", g)
	}
	if g := resides(r, id, 0); g.place != Inside || g.gone != 1 {
		t.Errorf("its counts are those of %+v", g)
	}
	if _, err := r.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.groups.get(id); ok || r.groups.stats().Entries >= before {
		t.Errorf("%+v", r.groups.stats())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.sweep(ended); err == nil {
		t.Error("a sweep that was broken off found everything")
	}
}

// TestMissesAreBounded: a flood of new cgroups costs room for 1024, and counts.
func TestMissesAreBounded(t *testing.T) {
	r := newResolver("/proc", View{}, 16, 16, 1, func(Ref, string) {})
	for id := range uint64(maxMisses + 10) {
		r.resolve(&event.Process{PID: 1, CgroupID: id + 1}, false)
	}
	if len(r.misses) != maxMisses || r.dropped.Load() != 10 || len(r.waiting) != maxMisses {
		t.Errorf("%d waiting, %d dropped", len(r.misses), r.dropped.Load())
	}
}

// TestDiscover looks at this machine's cgroups from its own namespaces and from
// those of a container, with and without the host's tree.
func TestDiscover(t *testing.T) {
	testenv.Root(t)
	host, err := Discover("/proc", "")
	if err != nil {
		t.Fatal(err)
	}
	if !host.Visible() || host.V2 == "" {
		testenv.Skip(t, "not in the host's cgroup namespace: "+host.Hint)
	}
	path, _ := makeCgroup(t, host.V2, 1)
	// The cgroup namespace's root is where its maker is: in the new cgroup.
	contain := "echo $$ > " + host.V2 + path + "/cgroup.procs && exec unshare --cgroup --mount sh -ec '"
	const private = "mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup\n"
	bind := "mkdir -p /mnt && mount -t tmpfs none /mnt && mkdir /mnt/host && mount --rbind " + host.V2 + " /mnt/host\n"
	for _, test := range []struct {
		name, script, configured string
		want                     Blind
		hint                     string
	}{
		{"host", "exec unshare --mount sh -ec '", "", Seeing, ""},
		{"private", contain + private, "", PrivateNamespace, "--cgroupns=host"},
		{"host tree", contain + bind + private, "/mnt/host", Seeing, ""},
		{"part of the tree", contain + "mount -t tmpfs none /mnt && mkdir /mnt/host && mount --bind " + host.V2 + filepath.Dir(path) + " /mnt/host\n" + private, "/mnt/host", PrivateNamespace, "hostPath"},
		{"nothing", contain + "mount -t tmpfs none /sys/fs/cgroup\n", "", NotMounted, "/host/sys/fs/cgroup"},
		{"wrong directory", "exec unshare --mount sh -ec '", "/etc", NotCgroupfs, "/etc is no cgroup file system"},
		{"empty tmpfs", "exec unshare --mount sh -ec 'mount -t tmpfs none /mnt\n", "/mnt", NotCgroupfs, "submounts"},
		{"no directory", "exec unshare --mount sh -ec '", "/no/such", RootMissing, "--path.cgroupfs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", test.script+"exec "+self+" -test.run=^TestShowView$ -test.v'")
			cmd.Env = append(os.Environ(), "SONDE_SHOW_VIEW=1", "SONDE_SHOW_ROOT="+test.configured)
			output, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			_, line, _ := strings.Cut(string(output), "view: ")
			line, _, _ = strings.Cut(line, "\n")
			reason, hint, _ := strings.Cut(line, "|")
			if reason != test.want.String() || !strings.Contains(hint, test.hint) || (hint == "") != (test.hint == "") {
				t.Errorf("reason %q, hint %q, want %q and %q", reason, hint, test.want, test.hint)
			}
		})
	}
}

// TestShowView is the other end of TestDiscover.
func TestShowView(t *testing.T) {
	if os.Getenv("SONDE_SHOW_VIEW") == "" {
		return // it has nothing to say of its own
	}
	v, err := Discover("/proc", os.Getenv("SONDE_SHOW_ROOT"), HostCgroups("/")...)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("view: " + v.Reason.String() + "|" + v.Hint + "\n")
}

// TestRest: walks that misses ask for take a tenth of the time at most.
func TestRest(t *testing.T) {
	r := &resolver{walked: time.Now(), cost: 5 * time.Millisecond}
	begin := time.Now()
	if err := r.rest(t.Context()); err != nil || time.Since(begin) < 45*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func BenchmarkResolve(b *testing.B) {
	r := newResolver("/proc", View{}, 16, 16, 1, func(Ref, string) {})
	r.groups.put(7, group{place: Inside, ref: dockerRef(1)})
	p := event.Process{PID: 1, CgroupID: 7}
	for b.Loop() {
		if g := r.resolve(&p, false); g.place != Inside {
			b.Fatal(g)
		}
	}
}

// BenchmarkResolveProc is the price of a new process on a machine with v1.
func BenchmarkResolveProc(b *testing.B) {
	r := newResolver("/proc", View{HasV1: true}, 16, 16, 1, func(Ref, string) {})
	p := event.Process{PID: uint32(os.Getpid())}
	for b.Loop() {
		r.resolve(&p, true)
	}
}

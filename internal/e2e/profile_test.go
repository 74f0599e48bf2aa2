package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sonde-ebpf/sonde/introspect/client"
)

// spinGo and spinC do nothing but spin, each in a function that can be recognised. The
// one in Go is built without symbols: its names are in Go's own table.
const (
	spinGo = `package main

var n uint64

//go:noinline
func spinInGo() {
	for i := uint64(1); i != 0; i++ {
		n += i * i
	}
}

func main() { spinInGo() }
`
	spinC = `volatile unsigned long n;

__attribute__((noinline)) void spin_in_c(void)
{
	for (unsigned long i = 1; i; i++)
		n += i * i;
}

int main(void)
{
	spin_in_c();
	return 0;
}
`
)

// compiled builds a program and returns its path.
func compiled(t *testing.T, name, source string, compiler ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	out := strings.TrimSuffix(path, filepath.Ext(path))
	build := exec.Command(compiler[0], append(compiler[1:], "-o", out, path)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, text)
	}
	return out
}

// background runs a program until the end of the test.
func background(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// profile gets a profile and returns what go tool pprof makes of it.
func (a *agent) profile(t *testing.T, route string, flags ...string) string {
	t.Helper()
	c, err := client.New(client.Options{Address: "unix://" + filepath.Join(a.dir, "introspect.sock")})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.File(t.Context(), route)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "p.pb.gz")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return pprof(t, file, flags...)
}

// pprofPath is where the Go tool keeps the program that `go tool pprof` runs.
var pprofPath = sync.OnceValues(func() (string, error) {
	if out, err := exec.Command("go", "tool", "pprof", "-h").CombinedOutput(); len(out) == 0 { // builds it
		return "", err
	}
	out, err := exec.Command("go", "tool", "-n", "pprof").Output()
	return strings.TrimSpace(string(out)), err
})

// pprof runs go tool pprof on a file.
func pprof(t *testing.T, file string, flags ...string) string {
	t.Helper()
	path, err := pprofPath()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	tool := exec.Command(path, append(flags, file)...)
	tool.Stderr = &complaints
	out, err := tool.Output()
	if err != nil {
		t.Fatalf("go tool pprof: %v\n%s", err, complaints.String())
	}
	return string(out)
}

// place finds the place of a function in the output of pprof -top, 0 if it is not there.
func place(top, function string) (n int) {
	_, rows, _ := strings.Cut(top, "cum%\n")
	row := regexp.MustCompile(`\s` + regexp.QuoteMeta(function) + `$`)
	for l := range strings.Lines(rows) {
		n++
		if row.MatchString(strings.TrimSpace(l)) {
			return n
		}
	}
	return 0
}

// go tool pprof reads every profile, and programs that spin are at the top of the
// node's, under the names of their functions.
func TestProfiles(t *testing.T) {
	a := startAgent(t)
	spinning := map[string]*exec.Cmd{
		"main.spinInGo": background(t, exec.Command(compiled(t, "spin-go.go", spinGo, "go", "build", "-ldflags=-s -w"))),
		"spin_in_c":     background(t, exec.Command(compiled(t, "spin-c.c", spinC, "gcc", "-O2", "-fno-omit-frame-pointer"))),
	}
	waitUntil(t, func() error {
		top := a.profile(t, "/profile/node?seconds=1", "-top")
		for function := range spinning {
			if n := place(top, function); n < 1 || n > 4 { // two processors, and whatever else the machine does
				return fmt.Errorf("%s is at place %d of the node:\n%s", function, n, top)
			}
		}
		return nil
	})
	for function, process := range spinning { // each by itself, with the verb
		file := filepath.Join(t.TempDir(), "own.pb.gz")
		waitUntil(t, func() error {
			if code, _, stderr := a.verb(t, "profile", "node", "--seconds=1", fmt.Sprintf("--pid=%d", process.Process.Pid), "-o", file); code != 0 {
				t.Fatalf("sonde profile: exit code %d: %s", code, stderr)
			}
			if top := pprof(t, file, "-top"); place(top, function) != 1 {
				return fmt.Errorf("%s is not at the top of its own process:\n%s", function, top)
			}
			return nil
		})
	}
	for _, route := range []string{"/profile/heap", "/profile/drops?seconds=1", "/debug/pprof/profile?seconds=1", "/debug/pprof/goroutine"} {
		a.profile(t, route, "-top")
	}
	waitUntil(t, func() error {
		if slow := a.profile(t, "/profile/slow?seconds=1&over=1ms", "-top"); !strings.Contains(slow, "[") {
			return fmt.Errorf("no call of the node took a millisecond:\n%s", slow)
		}
		return nil
	})
	f := a.families(t)
	if made := sum(f, "sonde_profiles_total", "profile=node"); made < 3 {
		t.Errorf("%v profiles of the node were counted", made)
	}
	if recorded := sum(f, "sonde_profile_samples_total", "profile=node", "outcome=recorded"); recorded < 10 {
		t.Errorf("%v samples were counted", recorded)
	}
}

// A container's profile holds what runs in its cgroup and nothing else.
func TestProfileOfAContainer(t *testing.T) {
	const id = "5e0de5e0de5e0de5e0de5e0de5e0de5e0de5e0de5e0de5e0de5e0de5e0de5e0d"
	root := cgroup2(t)
	parent := filepath.Join(root, "docker")
	made := os.Mkdir(parent, 0o755) == nil
	group := filepath.Join(parent, id)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		waitUntil(t, func() error { return os.Remove(group) })
		if made {
			_ = os.Remove(parent) // another one may have come
		}
	})
	a := startAgent(t)
	spin := compiled(t, "spin-c.c", spinC, "gcc", "-O2")
	background(t, exec.Command(spin)) // outside
	inside := background(t, act(t, "join", filepath.Join(group, "cgroup.procs"), spin))
	waitUntil(t, func() error {
		var all []struct {
			ID string `json:"id"`
		}
		a.ask(t, "/state/containers", &all)
		if !strings.Contains(fmt.Sprint(all), id) {
			return fmt.Errorf("the container is not known: %v", all)
		}
		return nil
	})
	waitUntil(t, func() error {
		tags := a.profile(t, "/profile/node?seconds=1&container="+id[:12], "-tags", "-sample_index=samples")
		if !strings.Contains(tags, id) {
			return fmt.Errorf("no sample of the container:\n%s", tags)
		}
		for _, pid := range regexp.MustCompile(`(?s) pid: .*?\n\n`).FindAllString(tags+"\n\n", -1) {
			if strings.Count(strings.TrimSpace(pid), "\n") != 1 || !strings.Contains(pid, fmt.Sprint(inside.Process.Pid)) {
				t.Errorf("want process %d alone:\n%s", inside.Process.Pid, pid)
			}
		}
		return nil
	})
}

// cgroup2 returns where cgroups of v2 are mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	t.Fatal("cgroup v2 is not mounted")
	return ""
}

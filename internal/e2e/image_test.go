package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// documentedRun is the command by which the README runs the image.
func documentedRun(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\npodman run ")
	command, _, ended := strings.Cut(rest, "\n```\n")
	if !found || !ended {
		t.Fatal("README.md does not say how to run the image")
	}
	return command
}

// The image runs as the README says, with those privileges and no more: it is ready,
// names the containers of its host, and counts what a sensor on the host counts.
func TestImage(t *testing.T) {
	p := testenv.NewRuntimes(t).StartPodman(t)
	tag := fmt.Sprintf("0.0.0-test%d", os.Getpid())
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p.Run(t, "install", "-D", path, "../../bin/sonde-amd64") // what make image builds first
	p.Run(t, "../../hack/image.sh", tag, "test")
	host := startAgent(t) // the first one of a machine mounts bpffs
	id := p.Sleep(t, "600", "--name=db")
	p.Write(t, "sonde.yaml", "containers: {runtimes: {podman: /host"+p.Socket+"}}")
	_, pins := directories(t)
	metrics, state := freeAddress(t), freeAddress(t)
	command := fmt.Sprintf("podman run --detach --name=sensor --ulimit=nofile=4096:4096 --ulimit=nproc=1024:1024 -v %s:/etc/sonde/sonde.yaml:ro ", p.Path("sonde.yaml")) +
		strings.Replace(documentedRun(t), "sonde:VERSION", "sonde:"+tag, 1) +
		fmt.Sprintf(" --bpf.pin-dir=%s --web.listen-address=%s --introspect.listen-address=%s --grpc.info-file=", pins, metrics, state)
	p.Run(t, "bash", "-c", command)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.Podman(t, "logs", "sensor"))
		}
		p.Podman(t, "stop", "--time=10", "sensor")
	})
	inside := &agent{address: metrics}
	waitUntil(t, func() error { return answers("http://"+metrics+"/readyz", "") })
	waitUntil(t, func() error { return answers("http://"+state+"/state/containers/"+id[:12], `"name":"db"`) })
	countsLike(t, host, inside)
}

// answers wants a route to answer 200 with a part in its body.
func answers(url, part string) error {
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !strings.Contains(string(body), part)) {
		err = fmt.Errorf("GET %s: %s: %s, want %s", url, res.Status, body, part)
	}
	return err
}

// countsLike wants two sensors to count the same of a workload, and all of it.
func countsLike(t *testing.T, one, other *agent) {
	t.Helper()
	const calls = 1000
	families := []string{"sonde_syscalls_total", "sonde_syscall_duration_seconds"}
	counted := func(a *agent) (n [2]float64) {
		f := a.families(t)
		for i, name := range families {
			n[i] = sum(f, name, "syscall=ioprio_get")
		}
		return n
	}
	before, otherBefore := counted(one), counted(other)
	for range calls {
		unix.Syscall(unix.SYS_IOPRIO_GET, 1, 0, 0)
	}
	after, otherAfter := counted(one), counted(other)
	for i, name := range families {
		if a, b := after[i]-before[i], otherAfter[i]-otherBefore[i]; a != calls || b != calls {
			t.Errorf("%s: one sensor has counted %v, the other %v, want %d", name, a, b, calls)
		}
	}
}

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// containerCgroup makes a cgroup that looks like one of Docker's, in the hierarchy
// that the memory controller is in, and returns its directory.
func containerCgroup(t *testing.T, id string) string {
	t.Helper()
	root := "/sys/fs/cgroup/memory"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	base := filepath.Join(root, fmt.Sprintf("sonde-e2e-%d", os.Getpid()))
	dir := filepath.Join(base, "docker", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range []string{dir, filepath.Dir(dir), base} {
			for range 300 { // members that are gone still count for an instant
				if unix.Rmdir(d) != unix.EBUSY {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
	return dir
}

// dockerSays serves a Docker that knows one container, and thinks about it for a while.
func dockerSays(t *testing.T, id string, thinks time.Duration) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sonde") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"Version":"28.2.2"}`) })
	mux.HandleFunc("GET /containers/"+id+"/json", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(thinks)
		io.WriteString(w, `{"Name":"/x","Config":{"Labels":{"io.kubernetes.pod.namespace":"sonde-test","io.kubernetes.pod.name":"web-0","io.kubernetes.container.name":"nginx"}}}`)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close(); os.RemoveAll(dir) })
	return socket
}

// TestWorkloadMetrics: what is done in a container is shown under the names that its
// runtime gives, exactly, also after its end.
func TestWorkloadMetrics(t *testing.T) {
	id := fmt.Sprintf("%064x", uint64(os.Getpid())<<32|uint64(time.Now().UnixNano())>>32)
	dir := containerCgroup(t, id)
	config := filepath.Join(t.TempDir(), "sonde.yaml")
	text := "collectors: {workloads: true}\ncontainers: {runtimes: {docker: " + dockerSays(t, id, 0) + "}}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, "--config.file="+config)

	const execs = 20
	for range execs {
		cmd := exec.Command("sh", "-c", "echo 0 >"+dir+"/cgroup.procs && exec /bin/true")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	labels := []string{"namespace=sonde-test", "pod=web-0", "container=nginx", "runtime=docker"}
	var got float64
	for deadline := time.Now().Add(60 * time.Second); got != execs; time.Sleep(200 * time.Millisecond) {
		got = sum(a.families(t), "sonde_workload_execs_total", labels...)
		if got > execs || time.Now().After(deadline) {
			t.Fatalf("%v execs of %d\n%s", got, execs, a.log)
		}
	}
	families := a.families(t)
	if n := sum(families, "sonde_workload_execs_total", "runtime=host"); n == 0 {
		t.Error("no exec on the host: the test has made some")
	}
	if n := len(families["sonde_workload_bytes_total"].GetMetric()); n%2 != 0 || n < 4 {
		t.Errorf("%d series of bytes: want two for each workload", n)
	}
	for _, name := range []string{"opened", "failed"} {
		if n := sum(families, "sonde_workload_connections_"+name+"_total", labels...); n != 0 {
			t.Errorf("%v connections %s by /bin/true", n, name)
		}
	}
	if strings.Contains(a.log.String(), "level=ERROR") {
		t.Error(a.log)
	}
}

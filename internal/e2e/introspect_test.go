package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
)

// ask gets a route over the introspection socket and decodes the answer.
func (a *agent) ask(t *testing.T, route string, into any) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(a.dir, "introspect.sock"))
		},
	}}
	res, err := client.Get("http://localhost" + route)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v\n%s", route, res.Status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("GET %s: %v\n%s", route, err, body)
	}
}

type shownConnection struct {
	Active        bool
	Local, Remote string
	PID           int
}

// connected opens one loopback connection and returns its client's address.
func connected(t *testing.T, l net.Listener) string {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client.LocalAddr().String()
}

// Introspection shows a connection and a listener from before the sensor, and one
// from after its start, each from both ends and with the process that owns it.
func TestIntrospectionShowsWhoTalks(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := connected(t, l)
	a := startAgent(t)
	after := connected(t, l)
	for _, client := range []string{before, after} {
		waitUntil(t, func() error {
			var all map[string][]shownConnection
			a.ask(t, "/state/network/connection?normalize=false&detail=true", &all)
			ends := 0
			for _, c := range all["host"] {
				if c.Active && c.PID == os.Getpid() && (c.Local == client || c.Remote == client) {
					ends++
				}
			}
			if ends != 2 {
				return fmt.Errorf("%d of both ends of %s are shown", ends, client)
			}
			return nil
		})
	}
	var endpoints map[string][]struct{ Endpoint struct{ Port int } }
	a.ask(t, "/state/network/endpoint", &endpoints)
	port := l.Addr().(*net.TCPAddr).Port
	if !strings.Contains(fmt.Sprint(endpoints["host"]), fmt.Sprint(port)) {
		t.Errorf("listener on port %d is not among %v", port, endpoints)
	}
	var self struct {
		PID int
		Exe string
	}
	a.ask(t, fmt.Sprintf("/state/processes/%d", os.Getpid()), &self)
	if exe, _ := os.Executable(); self.Exe != exe {
		t.Errorf("process %d shown as %q, is %q", os.Getpid(), self.Exe, exe)
	}
}

// Introspection shows every process that /proc lists, those too that the kernel's
// iterators leave out: pid 1 is one on some kernels.
func TestIntrospectionShowsEveryProcess(t *testing.T) {
	before := listedProcesses(t)
	a := startAgent(t)
	waitUntil(t, func() error {
		var shown []struct{ PID int }
		a.ask(t, "/state/processes?limit=100000", &shown)
		times := map[int]int{}
		for _, p := range shown {
			times[p.PID]++
		}
		var faults []error
		for pid := range listedProcesses(t) {
			if before[pid] && times[pid] != 1 {
				faults = append(faults, fmt.Errorf("process %d is shown %d times", pid, times[pid]))
			}
		}
		return errors.Join(faults...)
	})
}

// listedProcesses are those in /proc that have not ended.
func listedProcesses(t *testing.T) map[int]bool {
	t.Helper()
	all, err := procfs.AllProcs()
	if err != nil {
		t.Fatal(err)
	}
	pids := map[int]bool{}
	for _, p := range all {
		if stat, err := p.Stat(); err == nil && stat.State != "Z" && stat.State != "X" {
			pids[p.PID] = true
		}
	}
	if !pids[1] {
		t.Fatal("/proc does not list pid 1")
	}
	return pids
}

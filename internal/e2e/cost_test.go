package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The bars of an idle sensor on this project's test machine.
const (
	maxIdleRSS   = 40 << 20
	maxIdleCPU   = 0.01 // of one core
	maxReadyTime = 2 * time.Second
	idleFor      = 15 * time.Second
	idleWindows  = 4 // at most, the quietest counts
	maxScrape    = 20 * time.Millisecond
	manySockets  = 10_000
)

// cpuTime is what the process has used, user and system.
func (a *agent) cpuTime(t *testing.T) time.Duration {
	t.Helper()
	stat := a.procFile(t, "stat")
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks uint64
	for _, i := range []int{11, 12} { // utime, stime, counted from the state
		n, err := strconv.ParseUint(string(fields[i]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 for user space everywhere
}

// status returns a field of /proc/<pid>/status in bytes.
func (a *agent) status(t *testing.T, field string) int64 {
	t.Helper()
	for line := range bytes.Lines(a.procFile(t, "status")) {
		if rest, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			var kib int64
			if _, err := fmt.Sscan(string(rest), &kib); err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in status", field)
	return 0
}

// mappedMaps is how much of the resident memory is BPF maps: the event ring, which
// the kernel maps twice in a row, and the counters that are read in place.
func (a *agent) mappedMaps(t *testing.T) (total int64) {
	t.Helper()
	mine := false
	for line := range bytes.Lines(a.procFile(t, "smaps")) {
		var kib int64
		switch {
		case bytes.IndexByte(line, '-') > 0 && bytes.IndexByte(line, '-') < bytes.IndexByte(line, ' '): // a new mapping
			mine = bytes.Contains(line, []byte("anon_inode:bpf-map"))
		case mine && bytes.HasPrefix(line, []byte("Rss:")):
			if _, err := fmt.Sscan(string(line[4:]), &kib); err != nil {
				t.Fatal(err)
			}
			total += kib << 10
		}
	}
	return total
}

func (a *agent) procFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(a.cmd.Process.Pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// An idle sensor: small, quiet, and soon ready. Scraped every five seconds, as
// an idle sensor is.
func TestIdleCost(t *testing.T) {
	a := startAgent(t)
	t.Logf("ready after %v", a.ready.Round(time.Millisecond))
	if a.ready > maxReadyTime {
		t.Errorf("ready after %v, more than %v", a.ready, maxReadyTime)
	}
	// A sensor is idle while its node is: what disturbs a window does not disturb all.
	cpu := a.idleWindow(t)
	for range idleWindows - 1 {
		if cpu > maxIdleCPU {
			cpu = min(cpu, a.idleWindow(t))
		}
	}
	mapped := a.mappedMaps(t)
	rss := a.status(t, "VmRSS") - mapped
	maps := sum(a.families(t), "sonde_bpf_map_memory_bytes")
	t.Logf("idle for %v: %.2f %% of one core; RSS %.1f MiB, with the BPF maps mapped into it %.1f MiB; all BPF maps %.1f MiB", idleFor,
		100*cpu, float64(rss)/(1<<20), float64(rss+mapped)/(1<<20), maps/(1<<20))
	if rss > maxIdleRSS {
		t.Errorf("RSS %d MiB, more than %d", rss>>20, maxIdleRSS>>20)
	}
	if cpu > maxIdleCPU {
		t.Errorf("%.2f %% of one core, more than %.0f", 100*cpu, 100*maxIdleCPU)
	}
}

// idleWindow returns what the agent uses of one core while it is only scraped.
func (a *agent) idleWindow(t *testing.T) float64 {
	t.Helper()
	began, used := time.Now(), a.cpuTime(t)
	for time.Since(began) < idleFor {
		time.Sleep(5 * time.Second)
		a.families(t)
	}
	return (a.cpuTime(t) - used).Seconds() / time.Since(began).Seconds()
}

// A scrape stays quick however many sockets are open.
func TestScrapeWithManySockets(t *testing.T) {
	a := startAgent(t)
	openSockets(t, manySockets/2) // each has two ends
	waitUntil(t, func() error {
		if n := sum(a.families(t), "sonde_connections", "protocol=tcp", "peer=loopback"); n < manySockets {
			return fmt.Errorf("%v of %d sockets are counted", n, manySockets)
		}
		return nil
	})
	median := a.medianScrape(t)
	for began := time.Now(); median > maxScrape && time.Since(began) < 30*time.Second; { // what disturbs one series does not disturb all
		median = min(median, a.medianScrape(t))
	}
	if median > maxScrape {
		t.Errorf("median scrape %v, more than %v", median, maxScrape)
	}
}

// medianScrape scrapes 21 times.
func (a *agent) medianScrape(t *testing.T) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 21 {
		took = append(took, a.timeScrape(t))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("scrape with %d sockets: median %v, worst %v of %d", manySockets, median, took[len(took)-1], len(took))
	return median
}

func (a *agent) timeScrape(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	res, err := http.Get("http://" + a.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// openSockets opens n loopback connections and keeps both ends until the test ends.
func openSockets(t *testing.T, n int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open []io.Closer
	t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
		l.Close()
	})
	for range n {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
}

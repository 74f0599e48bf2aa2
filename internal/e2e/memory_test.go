package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// manyConnections opens as many loopback connections as its argument says, tells
// when they are there, and keeps both ends of them until its input ends.
func manyConnections() error {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	var open []net.Conn
	for len(open) < 2*n {
		// one address for few enough that ports do not run out
		l, err := net.Listen("tcp", fmt.Sprintf("127.1.0.%d:0", 1+len(open)/20_000))
		if err != nil {
			return err
		}
		for i := 0; i < 10_000 && len(open) < 2*n; i++ {
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			server, err := l.Accept()
			if err != nil {
				return err
			}
			open = append(open, client, server)
		}
		l.Close()
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin) // until somebody has seen enough
	runtime.KeepAlive(open)
	return nil
}

// longArguments starts processes with arguments of 100 KiB.
func longArguments() error {
	long := strings.Repeat("x", 100<<10)
	for range 50 {
		cmd := exec.Command("/proc/self/exe", long)
		cmd.Env = []string{"SONDE_E2E_ACT=nothing"}
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

const smallLimit = 64 << 20

// The sensor lives in 64 MiB under a load that wants more: no OOM kill, counters
// exact, nothing of the counting path fails; what it sheds it takes back.
// SONDE_SOAK=1 makes it ten minutes.
func TestSoakInSmallCgroup(t *testing.T) {
	connections, until := 2_000, time.Now()
	if os.Getenv("SONDE_SOAK") == "1" {
		connections, until = 50_000, time.Now().Add(10*time.Minute)
	}
	cgroup := testenv.MemoryCgroup(t, smallLimit)
	dir, pins := directories(t)
	a := launchIn(t, cgroup, dir, pins)
	a.waitReady(t)

	before, kernelBefore := a.settled(t)
	rounds := 0
	for ; rounds == 0 || time.Now().Before(until); rounds++ {
		a.loadOnce(t, connections)
	}
	after, kernelAfter := a.settled(t)
	if forks, kernel := sum(after, "sonde_process_forks_total")-sum(before, "sonde_process_forks_total"), kernelAfter-kernelBefore; forks != kernel {
		t.Errorf("counted %v forks, the kernel %v", forks, kernel)
	}
	if n := sum(after, "sonde_bpf_map_update_failures_total"); n != 0 {
		t.Errorf("%v entries found no room in a map", n)
	}
	opened := sum(after, "sonde_connections_opened_total", "direction=outbound", "peer=loopback", "protocol=tcp") -
		sum(before, "sonde_connections_opened_total", "direction=outbound", "peer=loopback", "protocol=tcp")
	if opened < float64(rounds*connections) {
		t.Errorf("counted %v connections of at least %d", opened, rounds*connections)
	}
	a.notKilled(t)
	t.Logf("%d rounds, %v forks, %v connections; peak %.1f MiB, transitions of shedding: %v", rounds,
		kernelAfter-kernelBefore, opened, sum(after, "sonde_sensor_memory_peak_bytes")/(1<<20), transitions(after))
	a.reach(t, 0, 0, func(float64) {})
}

// loadOnce does everything at once: connections, forks, long arguments, scrapes, queries.
func (a *agent) loadOnce(t *testing.T, connections int) {
	t.Helper()
	var holders []*holder
	for left := connections; left > 0; left -= holds {
		holders = append(holders, hold(t, min(left, holds)))
	}
	var load sync.WaitGroup
	for _, name := range []string{"fork-storm", "long-args"} {
		load.Go(func() {
			if out, err := act(t, name).Output(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		})
	}
	for _, h := range holders {
		h.wait(t)
	}
	for range 3 {
		a.families(t)
		var answer any
		a.ask(t, "/state/network/connection?detail=true", &answer)
		a.ask(t, "/state/processes", &answer)
	}
	load.Wait()
	for _, h := range holders {
		h.release(t)
	}
}

// holds is how many connections one process holds: it has two descriptors for each.
const holds = 4000

// holder is a process that holds connections.
type holder struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

// hold begins to open connections.
func hold(t *testing.T, connections int) *holder {
	t.Helper()
	h := &holder{cmd: act(t, "connections", strconv.Itoa(connections))}
	in, inErr := h.cmd.StdinPipe()
	out, outErr := h.cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, h.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	return h
}

// wait waits until they are open.
func (h *holder) wait(t *testing.T) {
	t.Helper()
	if line, err := h.out.ReadString('\n'); err != nil {
		t.Errorf("connections: %q, %v", line, err)
	}
}

// release closes them.
func (h *holder) release(t *testing.T) {
	t.Helper()
	h.in.Close()
	if err := h.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// settled scrapes at an instant in which no fork is under way, which the kernel's
// count has and ours has not yet, and returns the kernel's count, too.
func (a *agent) settled(t *testing.T) (families map[string]*dto.MetricFamily, kernel float64) {
	t.Helper()
	waitUntil(t, func() error {
		kernel, families = nodeForks(t), a.families(t)
		time.Sleep(10 * time.Millisecond)
		again := a.families(t)
		counted, later := sum(families, "sonde_process_forks_total"), sum(again, "sonde_process_forks_total")
		if now := nodeForks(t); now != kernel || later != counted {
			return fmt.Errorf("the node does not stop forking: %v and then %v, counted %v and then %v", kernel, now, counted, later)
		}
		return nil
	})
	return families, kernel
}

func (a *agent) notKilled(t *testing.T) {
	t.Helper()
	f := a.families(t)
	if n := sum(f, "sonde_sensor_memory_events_total", "event=oom_kill"); n != 0 || a.exited() {
		t.Errorf("%v OOM kills in its cgroup", n)
	}
}

// transitions are how often each level was entered.
func transitions(families map[string]*dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for _, m := range families["sonde_sensor_shed_transitions_total"].GetMetric() {
		all[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	return all
}

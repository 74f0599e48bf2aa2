package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// publicPeer is a public address that exists in the network namespace of one child.
var publicPeer = [4]byte{203, 0, 113, 7}

// talkToPublic is a process in a network namespace of its own that has a connection
// with a public peer until its standard input ends.
func talkToPublic() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := lo.SetInet4Addr(publicPeer[:]); err != nil {
		return err
	}
	addressed := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, lo)
	lo.SetUint16(unix.IFF_UP)
	if err := errors.Join(addressed, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("%v:0", net.IP(publicPeer[:])))
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := l.Accept(); err != nil {
		return err
	}
	fmt.Println("connected")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Switching external addresses off and on, in the configuration file, changes what is
// shown of a connection that exists, and reports it anew at once: the afterglow alone
// would take minutes.
func TestExternalIPsSwitchedInTheFile(t *testing.T) {
	testenv.Root(t)
	child := act(t, "talk-to-public")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	hold, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { hold.Close(); child.Wait() }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	file, events := filepath.Join(dir, "sonde.yaml"), filepath.Join(dir, "events.json")
	configure := func(enabled string) {
		text := "networking: {externalIps: {enabled: " + enabled + "}, afterglowPeriod: 1h}\n" +
			"sessions: [{name: all, points: [{name: network/report}], sinks: [{name: jsonl, config: {path: " + events + "}}]}]\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("ENABLED")
	a := startAgent(t, "--config.file="+file, "--events.dir="+dir)
	shows := func(peer string) bool {
		var all map[string][]struct{ To, From string }
		a.ask(t, "/state/network/connection", &all)
		return strings.Contains(fmt.Sprint(all), peer)
	}
	var pipeline struct{ Reports struct{ Active, Ended int } }
	reported := func() (active, ended int) {
		a.ask(t, "/state/pipeline", &pipeline)
		return pipeline.Reports.Active, pipeline.Reports.Ended
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		waitUntil(t, func() error {
			if ok() {
				return nil
			}
			return fmt.Errorf("no sign of %s", what)
		})
	}
	real := net.IP(publicPeer[:]).String()
	wait("the peer's address", func() bool { return shows(real) })
	configure("DISABLED")
	wait("the address of all ones", func() bool { return shows("255.255.255.255") && !shows(real) })
	wait("its report in the other form", func() bool { return strings.Contains(told(t, events), "255.255.255.255") })
	configure("ENABLED")
	wait("the peer's address again", func() bool { return shows(real) })
	wait("its report", func() bool { return strings.Contains(told(t, events), real) })
	wait("a report of the end of the other form", func() bool { _, ended := reported(); return ended > 0 })
}

// told is every report in a file, as text.
func told(t *testing.T, path string) string {
	t.Helper()
	var b strings.Builder
	for _, ev := range lines(t, path) {
		if p := ev.GetProcessTracepoint(); p.GetMessage() == "network/report" {
			fmt.Fprintln(&b, p.Args)
		}
	}
	return b.String()
}

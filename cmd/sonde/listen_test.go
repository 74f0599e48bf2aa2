package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/exporter"
)

// TestPassedListeners passes a socket to a child as systemd does: as descriptor 3,
// with the child's own pid in the environment. It is this test again.
func TestPassedListeners(t *testing.T) {
	if os.Getenv("SONDE_TEST_PASSED") != "" {
		servePassed(t)
		return
	}
	if all, err := passedListeners(); err == nil {
		t.Errorf("%v without systemd", all)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var log strings.Builder
	child := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -test.run='^TestPassedListeners$'`, os.Args[0])
	child.Env = append(os.Environ(), "SONDE_TEST_PASSED=1")
	child.ExtraFiles = []*os.File{file}
	child.Stdout, child.Stderr = &log, &log
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	// The kernel keeps the connection until the child accepts it; if the child fails, the
	// last descriptor of the socket closes with it.
	l.Close()
	file.Close()
	res, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Error(err)
	} else {
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Error(res.Status)
		}
	}
	stdin.Close()
	if err := child.Wait(); err != nil {
		t.Errorf("child: %v\n%s", err, &log)
	}
}

// servePassed serves on the socket that was passed until its standard input ends.
func servePassed(t *testing.T) {
	t.Helper()
	s := parse(t, "--web.systemd-socket")
	if _, err := s.load(); err != nil || !s.systemdSocket {
		t.Fatal("the flag is not taken", err)
	}
	passed, err := passedListeners()
	if err != nil {
		t.Fatal(err)
	}
	if v := os.Getenv("LISTEN_FDS"); v != "" {
		t.Errorf("LISTEN_FDS=%s is left to children", v)
	}
	e := exporter.New(exporter.Options{Listeners: passed})
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- e.Serve(ctx) }()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatal(fmt.Errorf("serving ended: %w", err))
	default:
	}
}

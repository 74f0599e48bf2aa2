package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// preflightOf loads a command line as `sonde check` does.
func preflightOf(t *testing.T, args ...string) *preflight {
	t.Helper()
	s := parse(t, args...)
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	return &preflight{machine: newMachine(s), settings: s, config: c}
}

func wantFinding(t *testing.T, f finding, status status, code exitCode, detail, remedy string) {
	t.Helper()
	if f.Status != status || f.Code != code || !strings.Contains(f.Detail, detail) || !strings.Contains(f.Remedy, remedy) {
		t.Errorf("%+v, want %s %d …%s…, …%s…", f, status, code, detail, remedy)
	}
}

// TestListenCheck: an address or socket is taken while somebody listens there; what
// is left of a socket is in nobody's way.
func TestListenCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	for _, flag := range []string{"--web.listen-address=unix://" + path, "--grpc.listen-address=unix://" + path, "--introspect.listen-address=unix://" + path, "--gvisor.endpoint=" + path} {
		p := preflightOf(t, "--web.listen-address=127.0.0.1:0", flag)
		wantFinding(t, p.listen(), statusFail, exitListen, path+": address already in use", "another process listens there")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantFinding(t, preflightOf(t, "--web.listen-address=unix://"+path).listen(), statusOK, exitOK, path, "")
}

func TestRuntimesCheck(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "containerd.sock")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := preflightOf(t)
	p.config.Containers.Runtimes = map[string]string{"containerd": dead}
	wantFinding(t, p.runtimes(), statusWarn, exitOK, "containerd does not answer: ", "start the runtime")
}

func TestContainersCheck(t *testing.T) {
	dir := t.TempDir()
	wantFinding(t, preflightOf(t, "--path.cgroupfs="+dir).containers(), statusWarn, exitOK, "(not_cgroupfs)", dir+" is no cgroup file system")
}

// TestEventsCheck: the directory matters only where a session writes there.
func TestEventsCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := preflightOf(t, "--events.dir="+filepath.Join(file, "below"))
	wantFinding(t, p.events(), statusOK, exitOK, "no session writes files", "")
	raw := map[string]any{"name": "s", "points": []any{map[string]any{"name": "process/exec"}}, "sinks": []any{map[string]any{"name": "jsonl"}}}
	p.config.Runtime.Sessions = []config.Session{{Name: "s", Raw: raw}}
	wantFinding(t, p.events(), statusWarn, exitOK, file, "--events.dir")
}

// TestBPFCheck asks the real kernel, which lets root; what it may say to others is TestExplain.
func TestBPFCheck(t *testing.T) {
	testenv.Root(t)
	wantFinding(t, preflightOf(t).bpf(), statusOK, exitOK, "accepted", "")
}

func TestSecurityModulesCheck(t *testing.T) {
	m := fakeMachine(t, 0, "", true)
	for text, want := range map[string]string{"1\n": "SELinux enforcing", "0": "SELinux permissive"} {
		file := filepath.Join(m.sys, "fs/selinux/enforce")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		wantFinding(t, (&preflight{machine: m}).securityModules(), statusOK, exitOK, fmt.Sprintf("lockdown,capability,selinux, %s", want), "")
	}
}

func TestCloudProvider(t *testing.T) {
	m := fakeMachine(t, 0, "", true)
	if got := m.cloudProvider(); got != "none" {
		t.Errorf("without firmware: %s", got)
	}
	dir := filepath.Join(m.sys, "class/dmi/id")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sys_vendor"), []byte("Amazon EC2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := m.cloudProvider(); got != "aws" {
		t.Errorf("of Amazon: %s", got)
	}
}

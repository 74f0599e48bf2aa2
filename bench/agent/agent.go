// Package agent runs a sensor for a measurement and asks it, and the kernel, what
// it costs.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// startTime is how long a sensor may take until it is ready, and stopTime until it
// has ended.
const (
	startTime = 30 * time.Second
	stopTime  = 30 * time.Second
)

// Agent is one running sensor, with directories of its own.
type Agent struct {
	cmd    *exec.Cmd
	ended  chan error
	output *os.File
	dir    string
	pins   string
	url    string // of /metrics
}

// Start runs a sensor, or a command that runs one with the arguments that are added
// to its own, and waits until it is ready. Its processes are a process group.
func Start(ctx context.Context, command []string) (*Agent, error) {
	a := &Agent{ended: make(chan error, 1)}
	var err error
	if a.dir, err = os.MkdirTemp("", "sonde-bench-"); err != nil {
		return nil, fmt.Errorf("start sensor: %w", err)
	}
	a.pins = filepath.Join("/sys/fs/bpf", filepath.Base(a.dir))
	if a.output, err = os.Create(filepath.Join(a.dir, "log")); err != nil {
		os.RemoveAll(a.dir)
		return nil, fmt.Errorf("start sensor: %w", err)
	}
	a.cmd = exec.Command(command[0], append(command[1:len(command):len(command)], a.flags()...)...)
	a.cmd.Stdout, a.cmd.Stderr = a.output, a.output
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		a.remove()
		return nil, fmt.Errorf("start sensor: %w", err)
	}
	go func() { a.ended <- a.cmd.Wait() }()
	if err := a.waitReady(ctx); err != nil {
		log, _ := os.ReadFile(a.output.Name())
		return nil, errors.Join(fmt.Errorf("start sensor: %w\n%s", err, log), a.Stop())
	}
	return a, nil
}

func (a *Agent) flags() []string {
	return []string{
		"run", "--web.listen-address=127.0.0.1:0", "--introspect.listen-address=127.0.0.1:0",
		"--grpc.listen-address=unix://" + filepath.Join(a.dir, "tetragon.sock"),
		"--grpc.info-file=" + filepath.Join(a.dir, "tetragon.json"),
		"--run.dir=" + a.dir, "--state.dir=" + filepath.Join(a.dir, "state"), "--bpf.pin-dir=" + a.pins,
	}
}

func (a *Agent) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		select {
		case err := <-a.ended:
			a.ended <- err
			return fmt.Errorf("it has ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
		base := a.discover()
		if base == "" {
			continue
		}
		if res, err := http.Get(base + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				a.url = base + "/metrics"
				return nil
			}
		}
	}
}

// discover returns where the sensor says that its metrics are, "" until it does.
func (a *Agent) discover() string {
	data, err := os.ReadFile(filepath.Join(a.dir, "sonde.json"))
	if err != nil {
		return ""
	}
	var d struct{ Addresses map[string][]string }
	if err := json.Unmarshal(data, &d); err != nil || len(d.Addresses["metrics"]) == 0 {
		return ""
	}
	return "http://" + strings.TrimPrefix(d.Addresses["metrics"][0], "http://")
}

// Stop ends the sensor and removes what it leaves. A sensor that does not end in
// time, or not in order, is an error.
func (a *Agent) Stop() error {
	defer a.remove()
	// The group may be gone already, which Wait tells.
	_ = syscall.Kill(-a.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case err := <-a.ended:
		if err != nil {
			return fmt.Errorf("stop sensor: %w", err)
		}
		return nil
	case <-time.After(stopTime):
		_ = syscall.Kill(-a.cmd.Process.Pid, syscall.SIGKILL)
		<-a.ended
		return fmt.Errorf("stop sensor: not ended within %v", stopTime)
	}
}

func (a *Agent) remove() {
	a.output.Close()
	os.RemoveAll(a.dir)
	os.RemoveAll(a.pins)
}

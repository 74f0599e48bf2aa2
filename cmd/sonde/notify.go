package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/sonde-ebpf/sonde/exporter"
)

// supervisor tells whoever started the agent how it is doing: systemd through
// its notification socket, Kubernetes through the termination file. Both are
// optional, and neither may stop the agent: what goes wrong is logged.
type supervisor struct {
	log             *slog.Logger
	terminationFile string
}

// maxTermination is what Kubernetes keeps of a termination file.
const maxTermination = 4096

func (s supervisor) ready(status string) { s.notify("READY=1", "STATUS="+oneLine(status)) }

func (s supervisor) stopping() { s.notify("STOPPING=1", "STATUS=stopping") }

// watchdog feeds systemd's watchdog, if there is one, twice in the time it waits, and
// for as long as nothing is stuck: then systemd ends the agent and starts it anew.
func (s supervisor) watchdog(ctx context.Context, stuck func() []exporter.Stuck) error {
	patience, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("systemd's watchdog is not fed", "err", err)
	}
	if err != nil || patience == 0 {
		return nil
	}
	hungry := false
	for tick := time.NewTicker(patience / 2); ; {
		if parts := stuck(); len(parts) == 0 {
			s.notify("WATCHDOG=1")
			hungry = false
		} else if !hungry {
			s.log.Error("stuck: systemd's watchdog is not fed", "part", parts[0].String())
			hungry = true
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
}

// ended passes on why the agent ends; nil is a clean end, of which there is
// nothing to tell.
func (s supervisor) ended(err error) {
	if err == nil {
		return
	}
	s.notify("STATUS="+oneLine(err.Error()), fmt.Sprintf("ERRNO=%d", int(errnoOf(err))))
	if err := writeTermination(s.terminationFile, err.Error()); err != nil {
		s.log.Warn("termination file not written", "err", err)
	}
}

func (s supervisor) notify(states ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(states, "\n")); err != nil {
		s.log.Warn("systemd not notified", "err", err)
	}
}

// writeTermination writes to a file that the container runtime has made. Where
// there is none nobody wants to know, so none is made.
func writeTermination(path, text string) error {
	info, err := os.Stat(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("write %s: not a regular file", path)
	}
	if len(text) > maxTermination {
		text = strings.ToValidUTF8(text[:maxTermination], "")
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

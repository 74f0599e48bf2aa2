package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/shed"
)

// left are the files that a sensor leaves in its directories; nothing else is
// touched there.
var left = struct{ run, state []string }{
	run:   []string{"sonde.json", "*.sock"},
	state: append(append([]string{}, blackbox.Files...), shed.DumpPattern),
}

// addCleanup adds the verb cleanup.
func (c *cli) addCleanup() {
	verb := c.app.Command("cleanup", "Remove what a sensor that has ended left: pinned programs, sockets, state. A running one is left alone.")
	pinDir := verb.Flag("bpf.pin-dir", "As of run.").Default("/sys/fs/bpf/sonde").String()
	runDir := verb.Flag("run.dir", "As of run.").Default("/run/sonde").String()
	stateDir := verb.Flag("state.dir", "As of run.").Default("/var/lib/sonde").String()
	asJSON := verb.Flag("json", "Print JSON.").Bool()
	c.asks[verb.FullCommand()] = func(_ context.Context, stdout io.Writer) error {
		removed, err := cleanup(*pinDir, *runDir, *stateDir)
		return errors.Join(err, writeRemoved(stdout, removed, *asJSON))
	}
}

// cleanup removes what is left and returns what that was. It holds the lock of the
// instance, so that none starts meanwhile.
func cleanup(pinDir, runDir, stateDir string) (removed []string, err error) {
	if _, err := os.Stat(runDir); err == nil {
		lock, err := lockInstance(runDir, pinDir)
		if err != nil {
			return nil, err
		}
		defer func() { _ = lock.Release() }() // the directory may be gone with it
	}
	removed, err = bpf.RemovePins(pinDir)
	errs := []error{err}
	for _, dir := range []struct {
		path  string
		files []string
	}{{runDir, left.run}, {stateDir, left.state}} {
		gone, err := removeFiles(dir.path, dir.files)
		removed, errs = append(removed, gone...), append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// removeFiles removes the files that match, and the directory if it is empty then.
func removeFiles(dir string, patterns []string) (removed []string, err error) {
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return removed, fmt.Errorf("list %s: %w", dir, err)
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return removed, fmt.Errorf("clean up: %w", err)
			}
			removed = append(removed, path)
		}
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 0 {
		if err := os.Remove(dir); err != nil {
			return removed, fmt.Errorf("clean up: %w", err)
		}
		removed = append(removed, dir)
	}
	return removed, nil
}

func writeRemoved(w io.Writer, removed []string, asJSON bool) error {
	if asJSON {
		if removed == nil {
			removed = []string{}
		}
		return writeJSON(w, map[string][]string{"removed": removed})
	}
	if len(removed) == 0 {
		_, err := fmt.Fprintln(w, "nothing to remove")
		return err
	}
	for _, path := range removed {
		if _, err := fmt.Fprintln(w, "removed", path); err != nil {
			return err
		}
	}
	return nil
}

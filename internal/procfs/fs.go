// Package procfs reads what the kernel says in files and prometheus/procfs does
// not cover: the sensor's own cgroup (v1, v2 and hybrids of both), its limits
// and pressure, and the few switches that decide whether eBPF may be used.
//
// Reading is apart from parsing: methods of FS read files below injectable
// roots, parseX functions take an io.Reader and know no path. Every value is
// read anew at each call; nothing is cached and nothing runs in the background,
// so an FS may be used from any number of goroutines.
package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoData says that this kernel or this cgroup does not keep the number that
// was asked for. It is a fact about the machine, not a fault.
var ErrNoData = errors.New("not kept here")

// FS reads below three roots.
type FS struct {
	proc string
	sys  string
	root string
}

// Options are the roots of an FS; empty ones take the defaults in brackets.
type Options struct {
	Proc string // mount point of procfs [/proc]
	Sys  string // mount point of sysfs [/sys]
	// Root is put before every mount point that mountinfo names [/]. It is "/"
	// unless the file systems of this process are visible elsewhere.
	Root string
}

// New returns an FS. It touches no file.
func New(o Options) FS {
	f := FS{proc: o.Proc, sys: o.Sys, root: o.Root}
	if f.proc == "" {
		f.proc = "/proc"
	}
	if f.sys == "" {
		f.sys = "/sys"
	}
	if f.root == "" {
		f.root = "/"
	}
	return f
}

// parsed opens path, hands it to parse and names path in every error. A file
// that does not exist is ErrNoData.
func parsed[T any](path string, parse func(io.Reader) (T, error)) (T, error) {
	var zero T
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return zero, fmt.Errorf("read %s: %w", path, ErrNoData)
	}
	if err != nil {
		// PathError already says the act and the path. Reading a pressure file
		// gives ENOTSUPP or EOPNOTSUPP where PSI is switched off.
		return zero, err
	}
	v, err := parse(bytes.NewReader(data))
	if err != nil {
		return zero, fmt.Errorf("parse %s: %w", path, err)
	}
	return v, nil
}

// parseNumber reads a file that holds one decimal number.
func parseNumber(r io.Reader) (uint64, error) {
	text, err := parseText(r)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// parseText reads a short file and trims the white space around it.
func parseText(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, 64<<10))
	return strings.TrimSpace(string(data)), err
}

// optional turns "not kept here" into a nil pointer, so that a caller shows
// nothing instead of a 0 that was never counted.
func optional[T any](v T, err error) (*T, error) {
	if errors.Is(err, ErrNoData) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// below joins a mount point or cgroup path to a base without escaping it.
func below(base, path string) string {
	return filepath.Join(base, filepath.Clean("/"+path))
}

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// instanceLock keeps a second instance away from the same pin directory. It is two:
// a file in the run directory, which says who has it, and the pin directory itself,
// which instances in several containers may share when they share nothing else. The
// kernel releases both however the process ends.
type instanceLock struct {
	file *os.File
	path string
	pins *pinLock
}

// lockInstance takes the lock for pinDir or says who has it.
func lockInstance(runDir, pinDir string) (*instanceLock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, &exitError{exitState, fmt.Errorf("create run directory: %w", err), "make it writable or choose another --run.dir"}
	}
	path := lockPath(runDir, pinDir)
	for {
		l, err := tryLock(path, pinDir)
		if err != nil {
			return nil, err
		}
		if l == nil {
			continue
		}
		if l.pins, err = lockPins(pinDir); err != nil {
			return nil, errors.Join(err, l.Release())
		}
		return l, nil
	}
}

// lockPath names the lock file of a pin directory.
func lockPath(runDir, pinDir string) string {
	if abs, err := filepath.Abs(pinDir); err == nil {
		pinDir = abs
	}
	sum := sha256.Sum256([]byte(filepath.Clean(pinDir)))
	return filepath.Join(runDir, fmt.Sprintf("%x.lock", sum[:6]))
}

// tryLock returns neither lock nor error if the file was removed by an instance
// that ended between our open and our lock: then there is a new one to open.
func tryLock(path, pinDir string) (*instanceLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, &exitError{exitState, fmt.Errorf("open lock: %w", err), "make it writable or choose another --run.dir"}
	}
	l := &instanceLock{file: file, path: path}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &exitError{exitRunning, fmt.Errorf("another instance%s uses %s", l.holder(), pinDir), "stop it or choose another --bpf.pin-dir"}
		}
		return nil, failf(exitState, "lock %s: %w", path, err)
	}
	if !isAt(file, path) {
		return nil, file.Close()
	}
	if err := l.sign(); err != nil {
		return nil, errors.Join(failf(exitState, "write lock: %w", err), l.Release())
	}
	return l, nil
}

// isAt reports whether the open file is still the one at the path.
func isAt(file *os.File, path string) bool {
	mine, err1 := file.Stat()
	there, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(mine, there)
}

func (l *instanceLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// holder names the pid that the file tells, for a message.
func (l *instanceLock) holder() string {
	text, err := io.ReadAll(io.LimitReader(l.file, 32))
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return " (pid " + pid + ")"
	}
	return ""
}

// Release removes the file and lets go of the lock, in this order: whoever opens
// the path from now on makes a new file.
func (l *instanceLock) Release() error {
	return errors.Join(l.pins.release(), os.Remove(l.path), l.file.Close())
}

// pinLock is a locked pin directory; nil where there is none to lock.
type pinLock struct{ dir *os.File }

// lockPins locks the pin directory, and makes it where it is missing. Outside of a
// BPF file system there is nothing to lock: nobody shares what nobody has mounted.
func lockPins(pinDir string) (*pinLock, error) {
	for {
		var fs unix.Statfs_t
		if err := unix.Statfs(nearest(pinDir), &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
			return nil, nil //nolint:nilerr // the probe that pins will say why it cannot
		}
		if err := os.MkdirAll(pinDir, 0o700); err != nil {
			return nil, failf(exitState, "create pin directory: %w", err)
		}
		dir, err := os.Open(pinDir)
		if errors.Is(err, os.ErrNotExist) { // an instance that ended has just removed it
			continue
		}
		if err != nil {
			return nil, failf(exitState, "open pin directory: %w", err)
		}
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer dir.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &exitError{exitRunning, fmt.Errorf("another instance, in another container or with another --run.dir, uses %s", pinDir),
					"stop it or choose another --bpf.pin-dir"}
			}
			return nil, failf(exitState, "lock %s: %w", pinDir, err)
		}
		if isAt(dir, pinDir) {
			return &pinLock{dir}, nil
		}
		dir.Close()
	}
}

// release removes the directory if nothing is pinned in it, and lets go of the lock.
func (l *pinLock) release() error {
	if l == nil {
		return nil
	}
	err := unix.Rmdir(l.dir.Name())
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, l.dir.Close())
}

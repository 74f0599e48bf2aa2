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

// instanceLock keeps a second instance away from the same pin directory. It is
// a file in the run directory, since files of bpffs cannot be locked; the kernel
// releases it however the process ends.
type instanceLock struct {
	file *os.File
	path string
}

// lockInstance takes the lock for pinDir or says who has it.
func lockInstance(runDir, pinDir string) (*instanceLock, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, &exitError{exitState, fmt.Errorf("create run directory: %w", err), "make it writable or choose another --run.dir"}
	}
	path := lockPath(runDir, pinDir)
	for {
		l, err := tryLock(path, pinDir)
		if l != nil || err != nil {
			return l, err
		}
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
	l := &instanceLock{file, path}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &exitError{exitRunning, fmt.Errorf("another instance%s uses %s", l.holder(), pinDir), "stop it or choose another --bpf.pin-dir"}
		}
		return nil, failf(exitState, "lock %s: %w", path, err)
	}
	if !l.current() {
		return nil, file.Close()
	}
	if err := l.sign(); err != nil {
		return nil, errors.Join(failf(exitState, "write lock: %w", err), l.Release())
	}
	return l, nil
}

// current reports whether the locked file is still the one at the path.
func (l *instanceLock) current() bool {
	mine, err1 := l.file.Stat()
	there, err2 := os.Stat(l.path)
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
	return errors.Join(os.Remove(l.path), l.file.Close())
}

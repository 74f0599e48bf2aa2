package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// FileVersion identifies what was in a file when it was read. Equal versions have
// equal content, as far as a file system tells.
type FileVersion struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // nanoseconds
}

// StatFile returns the version that path has now, the zero value where there is no
// file.
func StatFile(path string) FileVersion {
	info, err := os.Stat(path)
	if err != nil {
		return FileVersion{}
	}
	return versionOf(info)
}

func versionOf(info fs.FileInfo) FileVersion {
	v := FileVersion{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		v.Device, v.Inode = s.Dev, s.Ino
	}
	return v
}

// A change is told when nothing has happened for settleAfter, since few of them are
// made in one step, and after settleWithin at the latest.
const (
	settleAfter  = 200 * time.Millisecond
	settleWithin = 2 * time.Second
)

// Watch calls changed whenever path may lead to another file, or to another content:
// after it was written to, replaced, removed or made, and after a symbolic link or a
// directory on its way was, which is how Kubernetes changes a ConfigMap. It also
// calls it once at the start, as there was a time when nobody watched. StatFile tells
// whether there is anything new. Watch returns when ctx ends, or with an error when
// the kernel allows no watch.
func Watch(ctx context.Context, path string, changed func()) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	for ctx.Err() == nil {
		if err := watchOnce(ctx, path, changed); err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
	}
	return nil
}

// watchOnce sets the watches that the path needs now, calls changed, and returns when
// they may be out of date.
func watchOnce(ctx context.Context, path string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	entries := way(path)
	for _, entry := range entries {
		err := w.Add(filepath.Dir(entry))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if !slices.Equal(entries, way(path)) {
		return nil // it was led elsewhere meanwhile
	}
	changed()
	return settle(ctx, w, entries)
}

// settle returns some time after one of the entries was changed.
func settle(ctx context.Context, w *fsnotify.Watcher, entries []string) error {
	var quiet, latest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-quiet:
			return nil
		case <-latest:
			return nil
		case err, open := <-w.Errors:
			if !open || !errors.Is(err, fsnotify.ErrEventOverflow) {
				return err
			}
		case event, open := <-w.Events:
			if !open {
				return nil
			}
			if !slices.Contains(entries, event.Name) {
				continue
			}
		}
		quiet = time.After(settleAfter)
		if latest == nil {
			latest = time.After(settleWithin)
		}
	}
}

// maxLinks bounds the symbolic links on a way, as the kernel does.
const maxLinks = 40

// way lists the entries of directories that decide where an absolute path leads:
// every directory, symbolic link and file on the way, up to what is missing. None of
// them has a symbolic link before its last part.
func way(path string) (entries []string) {
	dir, rest := "/", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		entry := filepath.Join(dir, name)
		entries = append(entries, entry)
		target, err := os.Readlink(entry)
		if err != nil { // no link; where nothing is there, what follows is not there either
			if _, err := os.Lstat(entry); err != nil {
				return entries
			}
			dir = entry
			continue
		}
		if links++; links > maxLinks {
			return entries
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return entries
}

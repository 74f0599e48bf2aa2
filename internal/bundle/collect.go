package bundle

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The ways to collect an item.
type collector func(ctx context.Context, w io.Writer) error

// files collects the files that exist, each below its name where there are several;
// names may be patterns. None at all is fs.ErrNotExist.
func files(patterns ...string) collector {
	return func(_ context.Context, w io.Writer) error {
		var all []string
		for _, pattern := range patterns {
			found, err := filepath.Glob(pattern)
			if err != nil {
				return fmt.Errorf("list %s: %w", pattern, err)
			}
			all = append(all, found...)
		}
		if len(all) == 0 {
			return fmt.Errorf("%s: %w", strings.Join(patterns, ", "), fs.ErrNotExist)
		}
		var faults []error
		for _, name := range all {
			if len(patterns) > 1 || len(all) > 1 {
				fmt.Fprintf(w, "==> %s\n", name)
			}
			faults = append(faults, copyFile(w, name))
		}
		return errors.Join(faults...)
	}
}

// copyFile copies a file as text, also where it is compressed.
func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var from io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if from, err = gzip.NewReader(f); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	_, err = io.Copy(w, from)
	return err
}

// first collects the first file that exists.
func first(names ...string) collector {
	return func(_ context.Context, w io.Writer) (err error) {
		for _, name := range names {
			if err = copyFile(w, name); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return err
	}
}

// command collects what a program says, on both of its outputs. One that does not
// end in time is killed.
func command(name string, args ...string) collector {
	return func(ctx context.Context, w io.Writer) error {
		c := exec.CommandContext(ctx, name, args...)
		c.Stdout, c.Stderr = w, w
		c.WaitDelay = time.Second // a child of its own may hold the output open
		if err := c.Run(); err != nil {
			if late := ctx.Err(); late != nil {
				err = late
			}
			return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
		}
		return nil
	}
}

// either is the first of some ways that this machine has.
func either(ways ...collector) collector {
	return func(ctx context.Context, w io.Writer) (err error) {
		for _, way := range ways {
			if err = way(ctx, w); !errors.Is(err, exec.ErrNotFound) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return err
	}
}

// maxListed bounds how many entries of directories are listed.
const maxListed = 10000

// listing collects the names below directories, with mode, size and time, and no
// content.
func listing(dirs ...string) collector {
	return func(_ context.Context, w io.Writer) error {
		left := maxListed
		for _, dir := range dirs {
			err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if left--; left < 0 {
					return fs.SkipAll
				}
				info, statErr := os.Lstat(path)
				if err != nil || statErr != nil {
					fmt.Fprintf(w, "%s: %v\n", path, errors.Join(err, statErr))
					return nil
				}
				_, err = fmt.Fprintf(w, "%s %12d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), path)
				return err
			})
			if err != nil {
				return fmt.Errorf("list %s: %w", dir, err)
			}
		}
		return nil
	}
}

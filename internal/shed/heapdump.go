package shed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"time"
)

// Bounds of heap dumps.
const (
	MaxDumps     = 3
	MaxDumpBytes = 8 << 20
	// DumpEvery is the shortest time between two.
	DumpEvery = 5 * time.Minute
)

// DumpPattern matches the files of heap dumps.
const DumpPattern = "heap-*.pb.gz"

// errDumpTooLarge ends a dump that is larger than it may be.
var errDumpTooLarge = fmt.Errorf("heap dump is larger than %d bytes", MaxDumpBytes)

// HeapDump writes the Go heap's profile into dir and removes all but the last few.
// It returns the path, or "" if the last dump is too young. Nothing of a dump that
// failed is left.
func HeapDump(dir string, now time.Time) (path string, err error) {
	dumps, err := filepath.Glob(filepath.Join(dir, DumpPattern))
	if err != nil {
		return "", fmt.Errorf("list heap dumps: %w", err)
	}
	slices.Sort(dumps) // their names are times
	if len(dumps) > 0 {
		if info, err := os.Stat(dumps[len(dumps)-1]); err == nil && now.Sub(info.ModTime()).Abs() < DumpEvery {
			return "", nil
		}
	}
	for _, old := range dumps[:max(0, len(dumps)-MaxDumps+1)] {
		if err := os.Remove(old); err != nil {
			return "", fmt.Errorf("remove old heap dump: %w", err)
		}
	}
	path = filepath.Join(dir, "heap-"+now.UTC().Format("20060102T150405.000")+".pb.gz")
	if err := writeDump(path); err != nil {
		return "", errors.Join(fmt.Errorf("write heap dump: %w", err), os.Remove(path))
	}
	return path, nil
}

func writeDump(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(&bounded{f, MaxDumpBytes}, 0), f.Sync(), f.Close())
}

// bounded writes until its room is used up.
type bounded struct {
	file *os.File
	room int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.room {
		return 0, errDumpTooLarge
	}
	b.room -= len(p)
	return b.file.Write(p)
}

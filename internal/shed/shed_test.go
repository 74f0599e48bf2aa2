package shed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// Up at once and as far as it must, down by one when it has been calm.
func TestLadder(t *testing.T) {
	var l ladder
	for _, c := range []struct {
		share float64
		ticks int
		want  int
	}{
		{0.79, 20, Normal},
		{0.80, 1, Trim},
		{0.76, 20, Trim}, // not calm enough
		{0.88, 1, Reduce},
		{0.95, 1, Counters},
		{0.10, Patience - 1, Counters},
		{0.90, 1, Counters}, // not calm: it begins anew
		{0.10, Patience - 1, Counters},
		{0.10, 1, Reduce},
		{0.10, Patience, Trim},
		{0.10, Patience, Normal},
		{0.99, 1, Counters},
	} {
		var got int
		for range c.ticks {
			got = l.step(c.share)
		}
		if got != c.want {
			t.Fatalf("%d ticks with %.2f: level %d, want %d", c.ticks, c.share, got, c.want)
		}
	}
}

// What is shed comes back in the reverse order, and every level is told.
func TestGovernorShedsAndTakesBack(t *testing.T) {
	var log strings.Builder
	g := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	var done []string
	for level := Trim; level < Levels; level++ {
		for _, name := range []string{"a", "b"} {
			g.Register(level, name, func(on bool) { done = append(done, fmt.Sprintf("%d%s %v", level, name, on)) })
		}
	}
	g.enter(Counters, procfs.Room{Limit: 100, Share: 0.95})
	g.enter(Normal, procfs.Room{Limit: 100, Share: 0.1})
	want := []string{
		"1a true", "1b true", "2a true", "2b true", "3a true", "3b true",
		"3b false", "3a false", "2b false", "2a false", "1b false", "1a false",
	}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	if got := g.Transitions(); got != [Levels]uint64{1, 2, 2, 1} || g.Level() != Normal {
		t.Errorf("transitions %v, level %d", got, g.Level())
	}
	if up, down := strings.Count(log.String(), "load is shed"), strings.Count(log.String(), "taken back"); up != 3 || down != 3 {
		t.Errorf("%d lines of shedding, %d of taking back:\n%s", up, down, log.String())
	}
}

// While something is shed the garbage is given back, again and again; not otherwise.
func TestGovernorCollects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var share atomic.Value
		g := New(Options{
			Log: slog.New(slog.DiscardHandler), FixedGoLimit: true,
			Room: func() (procfs.Room, error) { return procfs.Room{Limit: 100, Share: share.Load().(float64)}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		collected := func(of float64, d time.Duration) uint32 {
			var before, after runtime.MemStats
			share.Store(of)
			runtime.ReadMemStats(&before)
			time.Sleep(d)
			synctest.Wait()
			runtime.ReadMemStats(&after)
			return after.NumForcedGC - before.NumForcedGC
		}
		share.Store(0.1)
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		const long = 3 * Patience * Tick
		if n := collected(0.1, long); n != 0 {
			t.Errorf("%d collections with memory to spare", n)
		}
		if n := collected(Rise[Trim], long); n != 3 {
			t.Errorf("%d collections in three times the patience, want 3", n)
		}
		collected(0.1, long)
		if n := collected(0.1, long); n != 0 || g.Level() != Normal {
			t.Errorf("%d collections when all is back, at level %d", n, g.Level())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The run time is told what maps and mapped files leave of the limit.
func TestGoLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ limit, maps, mapped, want uint64 }{
		{256 * mib, 60 * mib, 10 * mib, 170 * mib},
		{64 * mib, 24 * mib, 8 * mib, 28 * mib},
		{16 * mib, 24 * mib, 8 * mib, leastGoLimit},
	} {
		if got := GoLimit(c.limit, c.maps, c.mapped); got != int64(c.want) {
			t.Errorf("%+v: %d", c, got)
		}
	}
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	maps := uint64(60 * mib)
	g := New(Options{Log: slog.New(slog.DiscardHandler), Maps: func() (uint64, error) { return maps, nil }})
	room := procfs.Room{Limit: 256 * mib, Mapped: 10 * mib}
	tell := func(want int64) {
		t.Helper()
		if err := g.tell(room); err != nil || debug.SetMemoryLimit(-1) != want || g.GoLimit() != want {
			t.Errorf("limit %d, want %d; error %v", debug.SetMemoryLimit(-1), want, err)
		}
	}
	tell(170 * mib)
	maps = 30 * mib
	tell(170 * mib) // nobody has told that maps changed
	g.MapsChanged()
	tell(200 * mib)
	g.opts.FixedGoLimit = true
	room.Limit = 128 * mib
	tell(200 * mib)
}

// There is memory for something new as long as it does not make details be shed.
func TestAdmit(t *testing.T) {
	room, err := procfs.Room{Limit: 1000, Share: 0.5}, error(nil)
	g := New(Options{Log: slog.New(slog.DiscardHandler), Room: func() (procfs.Room, error) { return room, err }})
	if err := g.Admit(379); err != nil {
		t.Error(err)
	}
	if err := g.Admit(380); !errors.Is(err, ErrShort) {
		t.Errorf("what would end in level %d: %v", Reduce, err)
	}
	g.enter(Trim, room)
	if err := g.Admit(0); err != nil {
		t.Errorf("at level %d: %v", Trim, err)
	}
	g.enter(Reduce, room)
	if err := g.Admit(0); !errors.Is(err, ErrShort) {
		t.Errorf("at level %d: %v", Reduce, err)
	}
	if err = procfs.ErrNoData; g.Admit(1<<60) != nil {
		t.Error("refused where nothing limits the memory")
	}
	if err = os.ErrPermission; !errors.Is(g.Admit(0), os.ErrPermission) {
		t.Error("admitted where the limit cannot be read")
	}
}

// Without a limit there is nothing to govern.
func TestGovernorWithoutLimit(t *testing.T) {
	g := New(Options{Room: func() (procfs.Room, error) { return procfs.Room{}, procfs.ErrNoData }})
	if err := g.Run(context.Background()); err != nil {
		t.Error(err)
	}
}

// Dumps are few, private, rare and not large.
func TestHeapDumps(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	var paths []string
	for i := range MaxDumps + 2 {
		path, err := HeapDump(dir, now.Add(time.Duration(i)*2*DumpEvery))
		if err != nil || path == "" {
			t.Fatal(i, path, err)
		}
		paths = append(paths, path)
		at := now.Add(time.Duration(i) * 2 * DumpEvery)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	slices.Sort(left)
	if diff := cmp.Diff(paths[2:], left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	info, err := os.Stat(left[0])
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 || info.Size() > MaxDumpBytes {
		t.Errorf("dump: %v, %v", info, err)
	}
	if path, err := HeapDump(dir, now.Add((MaxDumps+1)*2*DumpEvery)); err != nil || path != "" {
		t.Errorf("a dump right after another: %q, %v", path, err)
	}
	if path, err := HeapDump(filepath.Join(dir, "absent"), now); err == nil {
		t.Errorf("a dump where none can be: %q", path)
	}
	file, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := &bounded{file, 10}
	if _, err := b.Write(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if _, err := b.Write([]byte{1}); err == nil {
		t.Error("a dump larger than its bound was written")
	}
}

package unixsocket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListen(t *testing.T) {
	socket := func(t *testing.T, kind string, alive bool) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen(kind, path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if !alive {
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
		}
		return path
	}
	for _, test := range []struct {
		name  string
		path  func(t *testing.T) string
		fails bool
		taken bool
	}{
		{"nothing there", func(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }, false, false},
		{"stale", func(t *testing.T) string { return socket(t, "unixpacket", false) }, false, false},
		{"stale of another kind", func(t *testing.T) string { return socket(t, "unix", false) }, false, false},
		{"alive", func(t *testing.T) string { return socket(t, "unixpacket", true) }, true, true},
		{"alive of another kind", func(t *testing.T) string { return socket(t, "unix", true) }, true, true},
		{"a file", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "s")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, true, true},
		{"no directory", func(t *testing.T) string { return filepath.Join(t.TempDir(), "d", "s") }, true, false},
		{"too long", func(*testing.T) string { return "/" + strings.Repeat("x", MaxPath) }, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.path(t)
			l, err := Listen("unixpacket", path)
			if (err != nil) != test.fails || errors.Is(err, syscall.EADDRINUSE) != test.taken {
				t.Fatalf("listen: %v", err)
			}
			if err != nil {
				return
			}
			defer l.Close()
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != fs.ModeSocket|Mode {
				t.Errorf("mode %v", info.Mode())
			}
		})
	}
	t.Run("longest", func(t *testing.T) {
		t.Chdir(t.TempDir())
		l, err := Listen("unix", strings.Repeat("x", MaxPath))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
}

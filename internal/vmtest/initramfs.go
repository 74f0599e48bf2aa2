package vmtest

import (
	"context"
	_ "embed" // the guest's init
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript []byte

// busybox is Debian's busybox-static: shell, mount and ip of the guest.
const busybox = "/bin/busybox"

// A Suite is one package's tests, compiled for the guest.
type Suite struct {
	Name   string // import path below the module, "bpf"
	Binary string // path of the static test binary
	Data   string // the package's testdata directory; may be absent
}

// Compile builds the tests of the package in directory dir of the checkout at
// root, statically, into the directory out.
func Compile(ctx context.Context, root, dir, out string) (Suite, error) {
	s := Suite{
		Name:   dir,
		Binary: filepath.Join(out, strings.ReplaceAll(dir, "/", "-")+".test"),
		Data:   filepath.Join(root, dir, "testdata"),
	}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", s.Binary, "./"+dir)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return Suite{}, fmt.Errorf("compile tests of %s: %w\n%s", dir, err, output)
	}
	if _, err := os.Stat(s.Binary); err != nil {
		return Suite{}, fmt.Errorf("compile tests of %s: there are none", dir)
	}
	return s, nil
}

// WriteInitramfs packs a root file system: busybox, the kernel's modules from
// the directory kernel, and each suite as /tests/NAME/{test,testdata/}.
func WriteInitramfs(path, kernel string, suites []Suite) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := file.Close(); err == nil {
			err = e
		}
	}()
	archive := &cpioWriter{w: file}
	for _, dir := range []string{"bin", "dev", "etc", "mods", "proc", "root", "run", "sys", "tests", "tmp"} {
		archive.add(dir, modeDir, nil)
	}
	archive.device("dev/console", 5, 1) // before devtmpfs is mounted
	archive.add("init", modeProgram, initScript)
	archive.add("bin/sh", modeLink, []byte("busybox"))
	if err := addFile(archive, "bin/busybox", busybox); err != nil {
		return err
	}
	if err := addTree(archive, "mods", filepath.Join(kernel, "modules")); err != nil {
		return err
	}
	for _, s := range suites {
		if err := addSuite(archive, s); err != nil {
			return err
		}
	}
	return archive.close()
}

func addSuite(archive *cpioWriter, s Suite) error {
	dir := "tests/" + strings.ReplaceAll(s.Name, "/", "-")
	archive.add(dir, modeDir, nil)
	if err := addFile(archive, dir+"/test", s.Binary); err != nil {
		return err
	}
	if _, err := os.Stat(s.Data); err != nil {
		return nil // most packages have no testdata
	}
	archive.add(dir+"/testdata", modeDir, nil)
	return addTree(archive, dir+"/testdata", s.Data)
}

// addFile adds the file at path as a program: a mode says little to root.
func addFile(archive *cpioWriter, name, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	archive.add(name, modeProgram, content)
	return archive.err
}

// addTree adds what is in the directory root, below the existing directory prefix.
func addTree(archive *cpioWriter, prefix, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name := prefix + "/" + filepath.ToSlash(relative)
		if d.IsDir() {
			archive.add(name, modeDir, nil)
			return archive.err
		}
		return addFile(archive, name, path)
	})
}

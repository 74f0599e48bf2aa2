package load

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// directory makes a temporary directory that Close removes.
func (g *Generator) directory() (string, error) {
	dir, err := os.MkdirTemp("", "sonde-load-")
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	g.cleanup = append(g.cleanup, func() { os.RemoveAll(dir) })
	return dir, nil
}

// prepareProcesses gives each program a random argument, because sensors leave out
// processes that look like one before.
func (g *Generator) prepareProcesses() error {
	dir, err := g.directory()
	if err != nil {
		return err
	}
	stub := filepath.Join(dir, "stub")
	if err := WriteStub(stub); err != nil {
		return err
	}
	g.operate = func(_ int, random *rand.Rand) error {
		argument := fmt.Sprintf("%07x", random.Uint32N(1<<28))
		pid, err := syscall.ForkExec(stub, []string{stub, argument}, &syscall.ProcAttr{})
		if err != nil {
			return fmt.Errorf("start %s: %w", stub, err)
		}
		var status syscall.WaitStatus
		for {
			if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		if err != nil || status != 0 {
			return fmt.Errorf("wait for %s: status %d, %w", stub, status, err)
		}
		return nil
	}
	return nil
}

func (g *Generator) prepareOpens() error {
	dir, err := g.directory()
	if err != nil {
		return err
	}
	const files = 64
	var paths [files]string
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(paths[i], nil, 0o600); err != nil {
			return fmt.Errorf("make file: %w", err)
		}
	}
	g.operate = func(_ int, random *rand.Rand) error { return openClose(paths[random.IntN(files)]) }
	return nil
}

func openClose(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return unix.Close(fd)
}

// prepareSyscalls mixes calls that do as little as they can: what is measured is not
// the file system.
func (g *Generator) prepareSyscalls() error {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	g.cleanup = append(g.cleanup, func() { unix.Close(fd) })
	g.operate = func(_ int, random *rand.Rand) error {
		var one [1]byte
		var stat unix.Stat_t
		switch n := random.IntN(10); {
		case n < 3:
			unix.Getppid()
		case n < 5:
			_, err := unix.Read(fd, one[:])
			return err
		case n < 7:
			_, err := unix.Write(fd, one[:])
			return err
		case n < 9:
			return unix.Fstat(fd, &stat)
		default:
			if err := unix.Close(-1); err != unix.EBADF {
				return fmt.Errorf("close -1: %w, want %w", err, unix.EBADF)
			}
		}
		return nil
	}
	return nil
}

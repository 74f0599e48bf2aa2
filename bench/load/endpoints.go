package load

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// prepareEndpoints has each worker listen at ports on loopback that the kernel picks.
func (g *Generator) prepareEndpoints() error {
	w := &g.workload
	if w.Ports <= 0 || w.Exponent <= 1 {
		return fmt.Errorf("%d ports, exponent %v: must be positive and above 1", w.Ports, w.Exponent)
	}
	if err := raiseFileLimit(w.Workers * w.Ports); err != nil {
		return err
	}
	open := make([][]int, w.Workers)
	closeAll := func(worker int) {
		for _, fd := range open[worker] {
			unix.Close(fd)
		}
		open[worker] = open[worker][:0]
	}
	g.cleanup = append(g.cleanup, func() {
		for worker := range open {
			closeAll(worker)
		}
	})
	g.operate = func(worker int, random *rand.Rand) error {
		closeAll(worker)
		n := 1 + rand.NewZipf(random, w.Exponent, 1, uint64(w.Ports-1)).Uint64()
		for range n {
			fd, err := listen(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
			if err != nil {
				return err
			}
			open[worker] = append(open[worker], fd)
		}
		return nil
	}
	return nil
}

func listen(at unix.Sockaddr) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	if err := errors.Join(unix.Bind(fd, at), unix.Listen(fd, 128)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen: %w", err)
	}
	return fd, nil
}

// raiseFileLimit makes room for n descriptors and those that are open already.
func raiseFileLimit(n int) error {
	const others = 256
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	want := uint64(n) + others
	if limit.Cur >= want {
		return nil
	}
	raised := unix.Rlimit{Cur: want, Max: max(limit.Max, want)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("raise limit of open files to %d: %w", want, err)
	}
	return nil
}

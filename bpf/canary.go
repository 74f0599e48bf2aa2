package bpf

import (
	"context"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanaryInterval is the time between two canary events.
const CanaryInterval = 5 * time.Second

// canaryDigits is what fits behind "canary" in a thread's name.
const canaryDigits = 1_000_000_000

// RunCanary sends canary events until ctx ends: the first at once, then one
// every interval. Each is a real tracepoint hit (a thread of ours renames
// itself), so it travels the whole way of an event. sent is called before each
// with its number. RunCanary keeps an operating-system thread for itself.
func (k *Kernel) RunCanary(ctx context.Context, interval time.Duration, sent func(seq uint64)) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, its odd name too
	self, err := k.whoami()
	if err != nil {
		return err
	}
	if err := k.set(settingCanary, uint64(self.TID)); err != nil {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for seq := uint64(1); ; seq = seq%(canaryDigits-1) + 1 {
		sent(seq)
		if err := renameThread(fmt.Sprintf("canary%d", seq)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func renameThread(name string) error {
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0); err != nil {
		return fmt.Errorf("rename canary thread: %w", err)
	}
	return nil
}

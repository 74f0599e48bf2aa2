package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signals is what the process listens to while it runs.
type signals struct {
	hangup chan os.Signal
	end    chan os.Signal
}

// echo is how long after the first signal another one is taken for the same wish:
// supervisors signal the process and its group, and both arrive here.
const echo = time.Second

// watchSignals returns a context that ends with the first SIGINT or SIGTERM. One
// that comes later ends the process at once: what the kernel holds is released by
// the kernel, and the files in the run directory by us.
func (a *agent) watchSignals(parent context.Context) (context.Context, *signals) {
	s := &signals{hangup: make(chan os.Signal, 1), end: make(chan os.Signal, 2)}
	signal.Notify(s.hangup, syscall.SIGHUP)
	signal.Notify(s.end, syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(parent)
	go func() {
		defer cancel()
		first, ok := <-s.end
		if !ok {
			return
		}
		a.log.Info("signal received", "signal", first.String())
		cancel()
		began := time.Now()
		for second := range s.end {
			if time.Since(began) < echo {
				continue
			}
			a.log.Warn("second signal: stopping at once", "signal", second.String())
			_ = withdraw(a.settings.runDir, os.Getpid())
			code := exitSignal + exitCode(second.(syscall.Signal))
			a.endBlackBox(code)
			os.Exit(int(code))
		}
	}()
	return ctx, s
}

// stop listens no more and ends the watching goroutine.
func (s *signals) stop() {
	signal.Stop(s.hangup)
	signal.Stop(s.end)
	close(s.end)
}

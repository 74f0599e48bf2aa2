package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
)

// reload takes the configuration file over at every SIGHUP, and when it has become
// another one. A file that cannot be used changes nothing.
func (a *agent) reload(ctx context.Context, hangup <-chan os.Signal) error {
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := config.Watch(ctx, a.settings.configFile, func() {
			select {
			case changed <- struct{}{}:
			default: // told already
			}
		})
		if err != nil {
			a.log.Warn("changes of the configuration file are seen at SIGHUP only", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangup:
				a.reloadOnce("SIGHUP")
			case <-changed:
				if config.StatFile(a.settings.configFile) != a.file {
					a.reloadOnce("file changed")
				}
			}
		}
	})
	return g.Wait()
}

func (a *agent) reloadOnce(why string) {
	c, err := a.settings.config()
	a.file = c.File()
	if err != nil {
		a.store.Refuse(err)
		a.log.Error("configuration not reloaded", "why", why, "err", err)
		return
	}
	for _, key := range frozenChanges(a.config, c) {
		a.log.Warn("configuration key changes at the next start only", "key", key)
	}
	if err := a.store.Apply(c, a.settings.configFile); err != nil {
		a.log.Error("configuration not reloaded", "why", why, "err", err)
		return
	}
	a.log.Info("configuration reloaded", "generation", a.store.Current().Generation, "why", why)
}

// frozenChanges lists the keys that differ and cannot change while the sensor runs.
func frozenChanges(old, now *config.Config) []string {
	var keys []string
	was := old.Values()
	for i, v := range now.Values() {
		if !config.Changeable(v.Key) && fmt.Sprint(v.Value) != fmt.Sprint(was[i].Value) {
			keys = append(keys, v.Key)
		}
	}
	return keys
}

func (a *agent) applyLevel(r config.Runtime) error {
	spec, err := logging.ParseSpec(r.Log.Level)
	if err != nil {
		return err
	}
	a.levels.Set(spec)
	return nil
}

package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
)

// withoutEffect are the keys that are read and checked, but that nothing in this
// version acts on. Setting one is told at the start.
var withoutEffect = []string{
	"sessions", "rules.",
}

func (a *agent) warnWithoutEffect() {
	for _, v := range a.config.Values() {
		for _, prefix := range withoutEffect {
			if v.Origin != config.OriginDefault && strings.HasPrefix(v.Key, prefix) {
				a.log.Warn("configuration key has no effect in this version", "key", v.Key)
			}
		}
	}
}

// runtimeKeys begin the keys that may change while the sensor runs.
var runtimeKeys = []string{"networking.", "processes.", "sessions", "rules.", "log."}

func changeable(key string) bool {
	for _, prefix := range runtimeKeys {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// reload reads the configuration file again at every SIGHUP. A file that cannot
// be used changes nothing.
func (a *agent) reload(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			a.reloadOnce()
		}
	}
}

func (a *agent) reloadOnce() {
	c, err := a.settings.config()
	if err != nil {
		a.store.Refuse(err)
		a.log.Error("configuration not reloaded", "err", err)
		return
	}
	for _, key := range frozenChanges(a.config, c) {
		a.log.Warn("configuration key changes at the next start only", "key", key)
	}
	if err := a.store.Apply(c.Runtime, a.settings.configFile); err != nil {
		a.log.Error("configuration not reloaded", "err", err)
		return
	}
	a.log.Info("configuration reloaded", "generation", a.store.Current().Generation)
}

// frozenChanges lists the keys that differ and cannot change while the sensor runs.
func frozenChanges(old, now *config.Config) []string {
	var keys []string
	was := old.Values()
	for i, v := range now.Values() {
		if !changeable(v.Key) && fmt.Sprint(v.Value) != fmt.Sprint(was[i].Value) {
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

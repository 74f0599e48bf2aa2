package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/rules"
)

// ruleFiles lists the files that patterns name, in order and each once. A pattern may
// fit none, a name must.
func ruleFiles(patterns []string) (paths []string, err error) {
	var faults []error
	for _, pattern := range patterns {
		found := []string{pattern}
		if strings.ContainsAny(pattern, "*?[") {
			if found, err = filepath.Glob(pattern); err != nil {
				faults = append(faults, fmt.Errorf("rules.files: %q: %w", pattern, err))
			}
		}
		for _, path := range found {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths, errors.Join(faults...)
}

// compileRules reads the rules that a configuration names, and compiles them. It
// returns every fault.
func compileRules(r config.Rules) (*rules.Set, error) {
	paths, err := ruleFiles(r.Files)
	faults := []error{err}
	var files []rules.File
	for _, path := range paths {
		if path == rules.Default {
			files = append(files, rules.DefaultFile())
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, fmt.Errorf("rules.files: %w", err))
			continue
		}
		files = append(files, rules.File{Name: path, Text: text})
	}
	set, err := rules.Compile(files)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, err
	}
	return set, nil
}

// startRules puts the rules of the configuration in force, before any probe is
// attached.
func (p *probes) startRules() (string, error) {
	if err := p.followRules(p.opts.config.Runtime); err != nil {
		return "", &exitError{code: exitConfig, err: err}
	}
	set := p.rules.Set()
	if set.Len() == 0 {
		return "none", nil
	}
	return fmt.Sprintf("%d rules, version %s (%s)", set.Len(), set.Version, set.ShortHash()), nil
}

// followRules makes the rules those of a configuration, or leaves them as they are.
func (p *probes) followRules(r config.Runtime) error {
	set, err := compileRules(r.Rules)
	if err != nil {
		return err
	}
	if before := p.rules.Set(); set.Hash != before.Hash {
		p.rules.Use(set)
		if err := p.sessions.Refresh(); err != nil {
			p.rules.Use(before)
			return errors.Join(fmt.Errorf("turn on what rules are about: %w", err), p.sessions.Refresh())
		}
		p.opts.log.With(logging.TargetKey, "rules").Info("rules in force", "rules", set.Len(), "version", set.Version, "hash", set.ShortHash())
	}
	return nil
}

// rulesEvery is how often files of rules are looked at. A change is taken over when it
// has stayed for as long.
const rulesEvery = time.Second

// watchRules has the configuration applied anew when its files of rules have become
// others, until ctx ends.
func (a *agent) watchRules(ctx context.Context) {
	tick := time.NewTicker(rulesEvery)
	defer tick.Stop()
	applied := ruleVersions(a.store.Current().Config.Runtime.Rules)
	for last := applied; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := ruleVersions(a.store.Current().Config.Runtime.Rules)
		settled := slices.Equal(now, last)
		last = now
		if !settled || slices.Equal(now, applied) {
			continue
		}
		applied = now
		if err := a.store.Apply(a.store.Current().Config, "files of rules"); err != nil {
			a.log.Error("rules not reloaded", "err", err)
		}
	}
}

// ruleVersion is a file of rules as it is now.
type ruleVersion struct {
	path    string
	version config.FileVersion
}

func ruleVersions(r config.Rules) (all []ruleVersion) {
	paths, err := ruleFiles(r.Files)
	if err != nil { // such a configuration was refused
		return nil
	}
	for _, path := range paths {
		all = append(all, ruleVersion{path, config.StatFile(path)})
	}
	return all
}

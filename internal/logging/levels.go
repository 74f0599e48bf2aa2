// Package logging makes the sensor's logger: slog records with a target, a
// level per target that may change at run time, and two formats. It imports
// nothing but the standard library.
package logging

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Levels beyond those of slog.
const (
	LevelTrace = slog.LevelDebug - 4
	levelOff   = slog.Level(127) // above everything that is ever logged
)

var levelNames = map[string]slog.Level{
	"trace": LevelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "error": slog.LevelError, "off": levelOff,
}

// LevelName is the name that a level has in a Spec; levels in between take the name
// below them.
func LevelName(l slog.Level) string {
	switch {
	case l >= levelOff:
		return "off"
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	case l >= slog.LevelDebug:
		return "debug"
	}
	return "trace"
}

// Spec is a parsed level specification: a default and exceptions by target.
type Spec struct {
	level   slog.Level
	targets map[string]slog.Level
}

// ParseSpec reads "info" or "info,bpf=debug,exporter.push=off". The longest
// matching prefix of a target decides; "::" separates like ".".
func ParseSpec(text string) (Spec, error) {
	s := Spec{level: slog.LevelInfo, targets: map[string]slog.Level{}}
	for i, part := range strings.Split(text, ",") {
		target, name, has := strings.Cut(strings.TrimSpace(part), "=")
		if !has {
			target, name = "", target
		}
		level, ok := levelNames[strings.ToLower(strings.TrimSpace(name))]
		target = canonical(strings.TrimSpace(target))
		switch {
		case !ok:
			return Spec{}, fmt.Errorf("%q is not a level; use trace, debug, info, warn, error or off", name)
		case !has && i > 0:
			return Spec{}, fmt.Errorf("%q has no target; write one level first, then target=level", name)
		case has && target == "":
			return Spec{}, fmt.Errorf("%q has an empty target; write target=level", part)
		case has:
			s.targets[target] = level
		default:
			s.level = level
		}
	}
	return s, nil
}

// canonical makes both separators one.
func canonical(target string) string { return strings.ReplaceAll(target, "::", ".") }

// String writes the specification in its shortest form; ParseSpec reads it back.
func (s Spec) String() string {
	parts := []string{LevelName(s.level)}
	for _, t := range slices.Sorted(maps.Keys(s.targets)) {
		parts = append(parts, t+"="+LevelName(s.targets[t]))
	}
	return strings.Join(parts, ",")
}

// Default names the level of every target that has no exception.
func (s Spec) Default() string { return LevelName(s.level) }

// of returns the level of a target: that of the longest prefix that ends at a
// separator.
func (s Spec) of(target string) slog.Level {
	for t := target; t != ""; {
		if l, ok := s.targets[t]; ok {
			return l
		}
		i := strings.LastIndexByte(t, '.')
		t = t[:max(i, 0)]
	}
	return s.level
}

// Levels holds the level of every target that has a logger. Reading a level is
// one atomic load; changing them may happen at any time, from any goroutine.
type Levels struct {
	mu   sync.Mutex
	spec Spec
	vars map[string]*slog.LevelVar
}

// NewLevels starts with the given specification.
func NewLevels(s Spec) *Levels {
	return &Levels{spec: s, vars: map[string]*slog.LevelVar{}}
}

// Set changes the level of every target, those with a logger already included.
func (l *Levels) Set(s Spec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spec = s
	for target, v := range l.vars {
		v.Set(s.of(target))
	}
}

// Spec returns the specification in force.
func (l *Levels) Spec() Spec {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spec
}

// Targets returns the level of every target that has a logger, by name.
func (l *Levels) Targets() map[string]slog.Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]slog.Level, len(l.vars))
	for target, v := range l.vars {
		all[target] = v.Level()
	}
	return all
}

// target returns the variable that holds a target's level. Targets come from
// constants in the code, so their number is bounded.
func (l *Levels) target(name string) *slog.LevelVar {
	name = canonical(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.vars[name]
	if v == nil {
		v = new(slog.LevelVar)
		v.Set(l.spec.of(name))
		l.vars[name] = v
	}
	return v
}

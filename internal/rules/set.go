// Package rules marks events that fit detection rules. A rule is a condition in CEL
// over the fields of an event, for the points that it names. Fields that come from the
// kernel's own objects (files, sockets, credentials) decide; what a process says of
// itself is there as a hint.
package rules

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the rules that are part of the sensor
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/cel-go/cel"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Bounds of a set.
const (
	MaxRules     = 256 // bounds the label "rule"
	MaxFiles     = 64
	MaxFileBytes = 1 << 20
	// MaxCost is the most that one condition may cost, in CEL's units, whatever the
	// event: comparing one character of a text costs a tenth. It is estimated when the
	// set is made, so nothing is metered per event.
	MaxCost = 100_000
)

// Default names the rules that are part of the sensor.
const Default = "default"

//go:embed default.yaml
var defaultText []byte

// File is a file of rules.
type File struct {
	Name string
	Text []byte
}

// DefaultFile is the file of the rules that are part of the sensor.
func DefaultFile() File { return File{Default, defaultText} }

// Set is a set of rules that has been compiled. It never changes.
type Set struct {
	Version string // those of the files, with plus signs between them
	Hash    string // of the files' content, hexadecimal
	rules   []*rule
	index
}

// index finds the rules that are about an event.
type index struct {
	byPoint [event.Points][]*rule
	byCall  map[event.CallPoint][]*rule // of points of system calls; none of them is Raw
}

// add enters a rule.
func (x *index) add(r *rule) {
	for _, p := range r.points {
		x.byPoint[p] = append(x.byPoint[p], r)
	}
	for _, c := range r.calls {
		if x.byCall == nil {
			x.byCall = map[event.CallPoint][]*rule{}
		}
		x.byCall[c] = append(x.byCall[c], r)
	}
}

// about returns the rules that are about an event.
func (x *index) about(ev *event.Event) []*rule {
	if ev.Point == event.Syscall {
		return x.byCall[event.CallPoint{Number: ev.Call.Number, Exit: ev.Call.Exit}]
	}
	return x.byPoint[ev.Point]
}

// rule is one rule of a set.
type rule struct {
	mark    event.Rule
	marks   []*event.Rule // this one alone: what most matches mark an event with
	points  []event.Point
	calls   []event.CallPoint // none of them is Raw
	program cel.Program
	*counts
}

// counts are what became of a rule; they go on when a set is replaced.
type counts struct {
	matched atomic.Uint64
	failed  [Failures]atomic.Uint64
}

// Failure is why a rule could not decide as it should.
type Failure uint8

// The failures.
const (
	// Evaluation: the condition has no value for this event, such as a division by zero.
	Evaluation Failure = iota
	// Unreadable: the condition asked for what the kernel could not read.
	Unreadable

	Failures = int(Unreadable) + 1
)

// AllFailures returns their names, in the order of the values.
func AllFailures() []string { return []string{"evaluation", "unreadable"} }

// fileText is a file of rules.
type fileText struct {
	Version string     `yaml:"version"`
	Rules   []ruleText `yaml:"rules"`
}

type ruleText struct {
	Name        string   `yaml:"name"`
	Description string   `yaml:"description"`
	Severity    string   `yaml:"severity"`
	Technique   string   `yaml:"technique"`
	Points      []string `yaml:"points"`
	Condition   string   `yaml:"condition"`
}

// Compile makes a set of files. It returns every fault at once, and no set then.
func Compile(files []File) (*Set, error) {
	if len(files) == 0 {
		return &Set{}, nil
	}
	env, err := newEnv()
	if err != nil {
		return nil, err
	}
	s := &Set{}
	var (
		faults   []error
		versions []string
		hash     = sha256.New()
	)
	if len(files) > MaxFiles {
		faults = append(faults, fmt.Errorf("%d files of rules: at most %d", len(files), MaxFiles))
	}
	for _, f := range files {
		fmt.Fprintf(hash, "%d\n", len(f.Text)) // so that text cannot move between files
		hash.Write(f.Text)
		text, err := parseFile(f)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", f.Name, err))
			continue
		}
		versions = append(versions, text.Version)
		for i := range text.Rules {
			if err := s.add(env, &text.Rules[i]); err != nil {
				faults = append(faults, inRule(f.Name, &text.Rules[i], i, err))
			}
		}
	}
	if len(s.rules) > MaxRules {
		faults = append(faults, fmt.Errorf("%d rules: at most %d", len(s.rules), MaxRules))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	s.Version, s.Hash = strings.Join(versions, "+"), hex.EncodeToString(hash.Sum(nil))
	return s, nil
}

// inRule says for each of joined errors where it is.
func inRule(file string, r *ruleText, i int, err error) error {
	where := r.Name
	if where == "" {
		where = fmt.Sprintf("number %d", i+1)
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for i := range all {
		all[i] = fmt.Errorf("%s: rule %s: %w", file, where, all[i])
	}
	return errors.Join(all...)
}

var versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$`)

func parseFile(f File) (*fileText, error) {
	if len(f.Text) > MaxFileBytes {
		return nil, fmt.Errorf("%d bytes: write at most %d", len(f.Text), MaxFileBytes)
	}
	text := &fileText{}
	d := yaml.NewDecoder(bytes.NewReader(f.Text))
	d.KnownFields(true)
	if err := d.Decode(text); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("read rules: a second document follows")
	}
	if !versionForm.MatchString(text.Version) {
		return nil, fmt.Errorf("version %q: write 1 to 32 letters, digits, dots, dashes or underscores", text.Version)
	}
	return text, nil
}

var (
	nameForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	techniqueForm = regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`)
)

// add compiles a rule. It returns every fault.
func (s *Set) add(env *cel.Env, t *ruleText) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	r := &rule{mark: event.Rule{Name: t.Name, Technique: t.Technique}, counts: &counts{}}
	switch {
	case !nameForm.MatchString(t.Name):
		fault("name %q: write 1 to 64 small letters, digits and dashes", t.Name)
	case slices.ContainsFunc(s.rules, func(o *rule) bool { return o.mark.Name == t.Name }):
		fault("another rule has that name")
	}
	var err error
	if r.mark.Severity, err = event.ParseSeverity(t.Severity); err != nil {
		faults = append(faults, err)
	}
	if !techniqueForm.MatchString(t.Technique) {
		fault("technique %q: write one of MITRE ATT&CK, such as T1059 or T1059.004", t.Technique)
	}
	if len(t.Points) == 0 {
		fault("no points: write those whose events it is about")
	}
	for _, name := range t.Points {
		if err := r.concern(name); err != nil {
			faults = append(faults, err)
		}
	}
	about := r.points
	if len(r.calls) > 0 {
		about = append(slices.Clip(about), event.Syscall)
	}
	if r.program, err = compile(env, t.Condition, about); err != nil {
		faults = append(faults, err)
	}
	r.marks = []*event.Rule{&r.mark}
	s.rules = append(s.rules, r)
	s.index.add(r)
	return errors.Join(faults...)
}

// concern makes a rule one about a point.
func (r *rule) concern(name string) error {
	if c, ok := event.ParseCallPoint(name); ok {
		c.Raw = false // its events have the arguments in any case
		if !slices.Contains(r.calls, c) {
			r.calls = append(r.calls, c)
		}
		return nil
	}
	p, ok := pointOf(name)
	if !ok {
		return fmt.Errorf("no point %q", name)
	}
	if !slices.Contains(r.points, p) {
		r.points = append(r.points, p)
	}
	return nil
}

func pointOf(name string) (event.Point, bool) {
	for _, p := range event.AllPoints() {
		if p != event.Canary && p != event.Syscall && p.String() == name {
			return p, true
		}
	}
	return 0, false
}

// ShortHash is the beginning of the hash, as people compare it.
func (s *Set) ShortHash() string { return s.Hash[:min(12, len(s.Hash))] }

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// Points returns the points whose events any rule is about, in order, and the ends of
// system calls besides.
func (s *Set) Points() (points []event.Point, calls event.WantedCalls) {
	for p := range s.byPoint {
		if len(s.byPoint[p]) > 0 || event.Point(p) == event.Syscall && len(s.byCall) > 0 {
			points = append(points, event.Point(p))
		}
	}
	for c := range s.byCall {
		calls.Add(c, 0)
	}
	return points, calls
}

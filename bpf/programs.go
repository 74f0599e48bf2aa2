package bpf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Programs returns what every program has cost and missed so far, by name. A
// program is named after its probe and what it is attached to. Run and Runs
// only grow while statistics are on (StatsSampler); Missed grows always.
func (k *Kernel) Programs() ([]ProgramStat, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var stats []ProgramStat
	for _, o := range k.objects {
		for name, prog := range o.coll.Programs {
			s, err := prog.Stats()
			if err != nil {
				return nil, fmt.Errorf("read statistics of program %s of %s: %w", name, o.probe, err)
			}
			stats = append(stats, ProgramStat{
				Program: programLabel(o.probe, name),
				Run:     s.Runtime.Seconds(),
				Runs:    s.RunCount,
				Missed:  s.RecursionMisses,
			})
		}
	}
	slices.SortFunc(stats, func(a, b ProgramStat) int { return cmp.Compare(a.Program, b.Program) })
	return stats, nil
}

// programLabel is the same however the program is attached.
func programLabel(probe, name string) string {
	for _, kind := range attachKinds {
		if tp, ok := strings.CutSuffix(name, programFor("", kind)); ok {
			name = tp
		}
	}
	return probe + "_" + name
}

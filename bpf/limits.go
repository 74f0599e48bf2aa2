package bpf

import (
	"errors"
	"fmt"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// MaxLimits bounds the ids of all limits together. Points that do not fit are not limited.
const MaxLimits = 1024

// Kinds of ids (headers/event.bpf.h).
const (
	limitPID = iota
	limitCgroup
	limitUID
)

// limitable are the points that can be limited: the kernel tells of what the current
// task does.
var limitable = maskOf([]event.Point{
	event.Syscall, event.ProcessMmap, event.SignalDeliver, event.OOMKill, event.ModuleLoad, event.BPFLoad, event.FileOpen, event.ProcessSetns,
})

// SetLimits makes points tell of some processes only, and all others of every process.
// What is left out is not attempted. What cannot be limited here is not: whoever limits
// has to look again.
func (k *Kernel) SetLimits(limits map[event.Point]event.Limit) error {
	k.choosing.Lock()
	defer k.choosing.Unlock()
	next, mask := limitKeys(limits)
	m := k.shared["limits"]
	if err := k.set(settingLimited, k.limited&mask); err != nil {
		return err
	}
	for key := range next { // before the old ones go: what is wanted before and after is never lost
		if err := m.Put(key, uint8(1)); err != nil {
			k.limited = 0
			return errors.Join(fmt.Errorf("limit points: %w", err), k.set(settingLimited, 0))
		}
	}
	if err := k.set(settingLimited, mask); err != nil {
		return err
	}
	var faults []error
	for key := range k.limits {
		if !next[key] {
			faults = append(faults, m.Delete(key))
		}
	}
	k.limits, k.limited = next, mask
	return errors.Join(faults...)
}

// limitKeys returns what the kernel's map has to hold, and the points that are limited.
func limitKeys(limits map[event.Point]event.Limit) (keys map[kernelLimitKey]bool, mask uint64) {
	keys = map[kernelLimitKey]bool{}
	for _, p := range event.AllPoints() {
		l, ok := limits[p]
		if n := len(l.PIDs) + len(l.Cgroups) + len(l.UIDs); !ok || limitable&(1<<p) == 0 || len(keys)+n > MaxLimits {
			continue
		}
		mask |= 1 << p
		for _, id := range l.PIDs {
			keys[kernelLimitKey{Id: uint64(id), Point: uint32(p), Kind: limitPID}] = true
		}
		for _, id := range l.Cgroups {
			keys[kernelLimitKey{Id: id, Point: uint32(p), Kind: limitCgroup}] = true
		}
		for _, id := range l.UIDs {
			keys[kernelLimitKey{Id: uint64(id), Point: uint32(p), Kind: limitUID}] = true
		}
	}
	return keys, mask
}

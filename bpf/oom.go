package bpf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type identity -type tally -type kill -type run -type end_tally -type end oom oom.bpf.c -- -Iheaders

// OOMOptions configures the oom probe.
type OOMOptions struct {
	// PinDir is the directory in a BPF file system that keeps the probe alive
	// when the agent is not; "" keeps nothing.
	PinDir string

	noKallsyms bool // test: as where kernel addresses are hidden
}

// OOM is the black box: it counts the kills of the OOM killer and how runs of the
// sensor ended. Where it could be pinned its counts are older than the agent and
// outlive it. It is safe for concurrent use.
type OOM struct {
	obj     *object
	reasons []string // what it cannot see
	pinned  string   // the directory of its pins, "" if there are none
}

// OOMKill is one kill, as the probe remembers the last few of them.
type OOMKill struct {
	Seq    uint64 // its number, from 1
	TimeNS uint64 // CLOCK_BOOTTIME
	Victim string // "sensor", "other"
	Scope  string // "cgroup", "global"

	PID     uint32 // in the initial pid namespace
	StartNS uint64 // CLOCK_BOOTTIME; 0 if the victim was gone before it was found
	UID     uint32
	Comm    string

	// What the victim had, in bytes. Kernels since 6.2 are a little behind, by at
	// most some hundred KiB per CPU.
	Anon, File, Shmem, Swap uint64
	// Of the memory cgroup that was full, else of the victim's own, in bytes.
	// Limit is 0 for none.
	CgroupUsage, CgroupLimit uint64
}

// The values of the labels, in the kernel's order.
var (
	oomVictims = [len(oomTally{}.Kills)]string{"sensor", "other"}
	oomScopes  = [len(oomTally{}.Kills[0])]string{"cgroup", "global"}
)

// NewOOM loads the probe, or takes over from the one that an earlier run has
// pinned: the new program counts into the old maps before the old program goes,
// so that no kill is missed, and a victim is counted once, so that none counts
// twice. What keeps it from being pinned is told by Status and is no error.
func NewOOM(k *Kernel, opts OOMOptions) (*OOM, error) {
	return construct(k, func() (*OOM, error) { return makeOOM(k, opts) })
}

func makeOOM(k *Kernel, opts OOMOptions) (*OOM, error) {
	spec, err := loadOom()
	if err != nil {
		return nil, fmt.Errorf("parse oom object: %w", err)
	}
	o := &OOM{}
	if err := o.configure(k, spec, opts); err != nil {
		return nil, err
	}
	b := blueprint{probe: "oom", spec: spec, tracepoints: []string{"mark_victim", "sched_process_exit"}}
	pins, err := openPins(opts.PinDir)
	switch {
	case err != nil:
		o.degrade("not pinned", err)
	case pins != nil:
		b.reuse = pins.load(spec)
		defer pins.close(b.reuse)
	}
	if o.obj, err = k.load(b); err != nil {
		return nil, err
	}
	if err := o.enlist(); err != nil {
		return nil, err
	}
	if err := o.obj.attach(b.tracepoints...); err != nil {
		return nil, err
	}
	if pins != nil {
		if err := pins.pin(o.obj, b.tracepoints, b.reuse); err != nil {
			o.degrade("not pinned", err)
		} else {
			o.pinned = pins.dir
		}
	}
	return o, nil
}

// configure adapts the object to what this kernel hands over and shows.
func (o *OOM) configure(k *Kernel, spec *ebpf.CollectionSpec, opts OOMOptions) error {
	if err := setVictimIsTask(k, spec); err != nil {
		return err
	}
	begin, end, err := kernelFunction("mem_cgroup_out_of_memory")
	if err != nil || opts.noKallsyms {
		// The fullest cgroup above the victim is nearly always the cause.
		o.degrade("scope is inferred from cgroup usage", cmp.Or(err, errors.ErrUnsupported))
		return nil
	}
	if err := spec.Variables["memcg_oom_begin"].Set(begin); err != nil {
		return fmt.Errorf("set memcg_oom_begin: %w", err)
	}
	if err := spec.Variables["memcg_oom_end"].Set(end); err != nil {
		return fmt.Errorf("set memcg_oom_end: %w", err)
	}
	return nil
}

func (o *OOM) degrade(what string, err error) {
	o.reasons = append(o.reasons, fmt.Sprintf("%s: %v", what, err))
}

// Status tells how the probe is attached, and what it cannot see or survive.
func (o *OOM) Status() ProbeStatus { return o.obj.status(o.reasons...) }

// PinnedIn returns the directory in which the probe stays when the agent ends, or "".
func (o *OOM) PinnedIn() string { return o.pinned }

// Read returns the number of kills of every kind, those of earlier runs included.
func (o *OOM) Read() ([]OOMStat, error) {
	var totals oomTally
	if err := o.obj.coll.Maps["totals"].Lookup(uint32(0), &totals); err != nil {
		return nil, fmt.Errorf("read OOM kills: %w", err)
	}
	var stats []OOMStat
	for v, victim := range oomVictims {
		for s, scope := range oomScopes {
			stats = append(stats, OOMStat{Victim: victim, Scope: scope, Count: totals.Kills[v][s]})
		}
	}
	return stats, nil
}

// Kills returns the last kills, the oldest first: 16 at most, also from earlier runs.
func (o *OOM) Kills() ([]OOMKill, error) {
	var kills []OOMKill
	last := o.obj.coll.Maps["last"]
	for i := range last.MaxEntries() {
		var k oomKill
		if err := last.Lookup(i, &k); err != nil {
			return nil, fmt.Errorf("read last OOM kills: %w", err)
		}
		if k.Seq != 0 {
			kills = append(kills, decodeKill(&k))
		}
	}
	slices.SortFunc(kills, func(a, b OOMKill) int { return cmp.Compare(a.Seq, b.Seq) })
	return kills, nil
}

func decodeKill(k *oomKill) OOMKill {
	page := uint64(os.Getpagesize())
	victim := oomVictims[1]
	if k.BySensor != 0 {
		victim = oomVictims[0]
	}
	comm := make([]byte, 0, len(k.Comm))
	for _, c := range k.Comm {
		comm = append(comm, byte(c))
	}
	comm, _, _ = bytes.Cut(comm, []byte{0})
	out := OOMKill{
		Seq: k.Seq, TimeNS: k.TimeNs, Victim: victim, Scope: oomScopes[k.Scope%uint8(len(oomScopes))],
		PID: k.Victim.Pid, StartNS: k.Victim.StartNs, UID: k.Uid, Comm: string(comm),
		Anon: k.AnonPages * page, File: k.FilePages * page, Shmem: k.ShmemPages * page, Swap: k.SwapPages * page,
		CgroupUsage: k.UsagePages * page,
	}
	// Without a limit the kernel says as many pages as a long can count in bytes.
	if k.LimitPages < math.MaxInt64/page {
		out.CgroupLimit = k.LimitPages * page
	}
	return out
}

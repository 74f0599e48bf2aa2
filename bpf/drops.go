package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_drops drops drops.bpf.c -- -Iheaders

// Reasons that are in no kernel's list of names.
const (
	// dropSubsystem is any reason of mac80211, openvswitch and others that keep
	// lists of their own.
	dropSubsystem = "other_subsystem"
	// dropOther is a reason of the core that is past the end of our table.
	dropOther = "other"
	// dropUnattributed are drops that interrupted the counting of another one:
	// the kernel skips a program then, but says how often.
	dropUnattributed = "unattributed"
)

// Drops counts packets that the kernel frees with a reason. It is safe for
// concurrent use.
type Drops struct {
	obj    *object
	counts *counters[dropsCpuDrops]
	names  map[uint32]string // of the reasons that are drops
}

// NewDrops loads the probe and attaches it. Where the kernel knows no reasons
// (before 5.17) the error is errors.ErrUnsupported.
func NewDrops(k *Kernel) (*Drops, error) {
	return construct(k, func() (*Drops, error) { return makeDrops(k) })
}

func makeDrops(k *Kernel) (*Drops, error) {
	names, err := dropReasons(k)
	if err != nil {
		return nil, err
	}
	spec, err := loadDrops()
	if err != nil {
		return nil, fmt.Errorf("parse drops object: %w", err)
	}
	d := &Drops{names: names}
	if err := sizeCounters(spec, "counts"); err != nil {
		return nil, err
	}
	if d.obj, err = k.load(blueprint{probe: "drops", spec: spec, tracepoints: []string{"kfree_skb"}}); err != nil {
		return nil, err
	}
	if d.counts, err = openCounters[dropsCpuDrops](d.obj, "counts"); err != nil {
		return nil, err
	}
	return d, d.obj.attach("kfree_skb")
}

// dropReasons reads the running kernel's list: numbers differ between kernels.
// SKB_NOT_DROPPED_YET and SKB_CONSUMED, which are no drops, are not in it.
func dropReasons(k *Kernel) (map[uint32]string, error) {
	args, err := k.tracepointArgs("kfree_skb")
	if err != nil {
		return nil, err
	}
	types, err := k.kernelTypes()
	if err != nil {
		return nil, err
	}
	var list *btf.Enum
	err = types.TypeByName("skb_drop_reason", &list)
	if len(args) < 3 || errors.Is(err, btf.ErrNotFound) {
		return nil, fmt.Errorf("tracepoint kfree_skb: gives no reason on this kernel: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("read enum skb_drop_reason: %w", err)
	}
	names := map[uint32]string{}
	for _, v := range list.Values {
		if name, ok := strings.CutPrefix(v.Name, "SKB_DROP_REASON_"); ok && name != "MAX" && name != "SUBSYS_MASK" {
			names[uint32(v.Value)] = strings.ToLower(name)
		}
	}
	return names, nil
}

// Status tells how the probe is attached.
func (d *Drops) Status() ProbeStatus { return d.obj.status() }

// Read returns the count of every reason that this kernel knows, sorted by name.
func (d *Drops) Read() ([]DropStat, error) {
	var sum dropsCpuDrops
	if err := d.counts.sum(&sum); err != nil {
		return nil, err
	}
	byName := map[string]uint64{dropSubsystem: sum.Subsystem, dropOther: sum.Beyond}
	for reason, n := range sum.Core {
		if name, ok := d.names[uint32(reason)]; ok {
			byName[name] += n
		}
	}
	s, err := d.obj.coll.Programs[programFor("kfree_skb", d.obj.kind)].Stats()
	if err != nil {
		return nil, fmt.Errorf("read missed drops: %w", err)
	}
	byName[dropUnattributed] = s.RecursionMisses
	stats := make([]DropStat, 0, len(byName))
	for name, n := range byName {
		stats = append(stats, DropStat{Reason: name, Count: n})
	}
	slices.SortFunc(stats, func(a, b DropStat) int { return cmp.Compare(a.Reason, b.Reason) })
	return stats, nil
}

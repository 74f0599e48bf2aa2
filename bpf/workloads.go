package bpf

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// DefaultMaxWorkloads bounds the workloads, that is the cgroups with something
// counted. An entry takes 136 bytes of kernel memory (48 head, 16 key, 56 value, 16
// bucket), 2.2 MiB in all, and nothing while workloads are not counted.
const DefaultMaxWorkloads = 16384

// WorkloadOptions says how workloads are told apart.
type WorkloadOptions struct {
	// Max is how many are told apart, 0 for DefaultMaxWorkloads. What is counted
	// beyond it is in one more, whose Key is OverflowWorkload.
	Max uint32
}

// WorkloadKey is where a task is, by ids of cgroups: in v2, and in the v1 hierarchy
// that was chosen, 0 without one. Ids are not used twice while the machine runs.
type WorkloadKey struct{ V2, V1 uint64 }

// OverflowWorkload stands for all that found the map of workloads full.
var OverflowWorkload = WorkloadKey{^uint64(0), ^uint64(0)}

// WorkloadStat is what the tasks of one cgroup have done since the start. All of it
// only grows, except that Sent and Received may be taken back by one byte per
// connection (ConnStat tells why). A connection is its owner's: of who connected, or
// accepted it.
type WorkloadStat struct {
	Key               WorkloadKey
	ConnectionsOpened uint64 // TCP
	ConnectionsFailed uint64 // attempts of its own
	SentBytes         uint64
	ReceivedBytes     uint64
	Execs             uint64
	OOMKills          uint64 // counted when the victim ends
	SyscallErrors     uint64
}

// prepareWorkloads sizes the map.
func (k *Kernel) prepareWorkloads(spec *ebpf.CollectionSpec) {
	if o := k.opts.Workloads; o != nil {
		spec.Maps["workloads"].MaxEntries = cmp.Or(o.Max, DefaultMaxWorkloads) + 1 // and the one for what is beyond
	}
}

// workloadsV1 says that workloads are told apart by their cgroups of v1, too.
func (k *Kernel) workloadsV1() bool { return k.opts.Workloads != nil && k.cgroupsV1 != 0 }

// controllerNumber returns the number of a cgroup controller in this kernel.
func (k *Kernel) controllerNumber(name string) (uint32, error) {
	types, err := k.kernelTypes()
	if err != nil {
		return 0, err
	}
	var numbers *btf.Enum
	if err := types.TypeByName("cgroup_subsys_id", &numbers); err != nil {
		return 0, fmt.Errorf("find cgroup controllers: %w", err)
	}
	if name == "blkio" { // its name on v1
		name = "io"
	}
	for _, v := range numbers.Values {
		if v.Name == name+"_cgrp_id" {
			return uint32(v.Value), nil
		}
	}
	return 0, fmt.Errorf("find cgroup controller %s: %w", name, btf.ErrNotFound)
}

// makeOverflowWorkload enters the workload of all that finds no place.
func (k *Kernel) makeOverflowWorkload() error {
	if k.opts.Workloads == nil {
		return nil
	}
	if err := k.shared["workloads"].Put(OverflowWorkload, kernelWorkload{}); err != nil {
		return fmt.Errorf("enter overflow workload: %w", err)
	}
	return nil
}

// setCgroups tells an object what cgroups are for in it.
func (k *Kernel) setCgroups(spec *ebpf.CollectionSpec) error {
	for name, value := range map[string]any{
		"cgroups_v1": k.cgroupsV1, "workloads_on": k.opts.Workloads != nil, "workloads_v1": k.workloadsV1(),
	} {
		if v := spec.Variables[name]; v != nil {
			if err := v.Set(value); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}
	return nil
}

// cutLastMember makes the values of a map smaller by the last member of their type,
// which no program must touch.
func cutLastMember(m *ebpf.MapSpec) error {
	whole, ok := m.Value.(*btf.Struct)
	if !ok || len(whole.Members) < 2 {
		return fmt.Errorf("values are %v, not a structure", m.Value)
	}
	cut, last := *whole, len(whole.Members)-1
	cut.Size = whole.Members[last].Offset.Bytes()
	cut.Members = whole.Members[:last]
	m.Value, m.ValueSize = &cut, cut.Size
	return nil
}

// Workloads reads what is counted for each cgroup. It is safe for concurrent use.
type Workloads struct {
	entries *ebpf.Map
}

// Workloads returns the counts of workloads, nil where they are not counted.
func (k *Kernel) Workloads() *Workloads {
	if k.opts.Workloads == nil {
		return nil
	}
	return &Workloads{k.shared["workloads"]}
}

// workloadsAtATime is how many entries one system call reads.
const workloadsAtATime = 1024

// Read calls yield for each workload.
func (w *Workloads) Read(yield func(WorkloadStat)) error {
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]WorkloadKey, workloadsAtATime)
		values = make([]kernelWorkload, workloadsAtATime)
	)
	for {
		n, err := w.entries.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			yield(workloadStat(keys[i], &values[i]))
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read workloads: %w", err)
		}
	}
}

// The indexes of the kernel's counters (headers/workload.bpf.h).
const (
	workloadOpened = iota
	workloadFailed
	workloadSent
	workloadReceived
	workloadExecs
	workloadOOMKills
	workloadSyscallErrors
)

func workloadStat(key WorkloadKey, w *kernelWorkload) WorkloadStat {
	return WorkloadStat{
		Key:               key,
		ConnectionsOpened: w.Counts[workloadOpened], ConnectionsFailed: w.Counts[workloadFailed],
		SentBytes: w.Counts[workloadSent], ReceivedBytes: w.Counts[workloadReceived],
		Execs: w.Counts[workloadExecs], OOMKills: w.Counts[workloadOOMKills],
		SyscallErrors: w.Counts[workloadSyscallErrors],
	}
}

// Forget makes room: the counts of a workload are gone. It is for cgroups that are
// gone; should one of their connections still be open, they begin anew at 0.
func (w *Workloads) Forget(key WorkloadKey) error {
	if err := w.entries.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget workload: %w", err)
	}
	return nil
}

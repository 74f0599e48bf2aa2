package container

import (
	"log/slog"
	"time"

	"github.com/sonde-ebpf/sonde/internal/config"
)

// Options is what Containers needs to know; zero values take the defaults in
// brackets.
type Options struct {
	Proc   string // mount point of procfs [/proc]
	Rootfs string // where the host's root is mounted, for HostRoots [/]
	// CgroupRoot is the only place where cgroups are looked for; if it is empty,
	// HostCgroups and the mounts of this process are tried.
	CgroupRoot string
	// Runtimes says where runtimes listen; for the others the usual places are tried.
	Runtimes config.Containers
	Max      int // containers known at once [4096]

	CallDeadline time.Duration // of one call to a runtime [2s]
	SweepEvery   time.Duration // between two walks of the cgroup tree [30s]
	CheckEvery   time.Duration // between two looks at the sockets [15s]
	Keep         time.Duration // what an ended container is remembered for [5m]
	Believe      time.Duration // how long "no such container" holds [1m]
	Hold         time.Duration // how long Wait has somebody wait [not at all]

	// Changed is called when a container was found that was not there when Run began,
	// and when one has ended. It must not wait, and may not call back. [nothing]
	Changed func(Meta, bool)

	Log *slog.Logger // [discarded]
}

func (o *Options) setDefaults() {
	fill(&o.Proc, "/proc")
	fill(&o.Rootfs, "/")
	fill(&o.Max, 4096)
	fill(&o.CallDeadline, 2*time.Second)
	fill(&o.SweepEvery, 30*time.Second)
	fill(&o.CheckEvery, 15*time.Second)
	fill(&o.Keep, 5*time.Minute)
	fill(&o.Believe, time.Minute)
	if o.Changed == nil {
		o.Changed = func(Meta, bool) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

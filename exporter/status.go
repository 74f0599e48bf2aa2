package exporter

import "time"

// Status is what the landing page tells about the agent. Numbers that are not known
// are nil and shown as such.
type Status struct {
	Node     string
	Kernel   string
	Version  string
	Revision string
	Started  time.Time

	Probes []ProbeStatus
	Losses []LossStatus
	Rings  []RingStatus
	Cost   CostStatus
	Links  []Link // besides the exporter's own routes
}

// ProbeStatus is one probe.
type ProbeStatus struct {
	Name     string
	Attached bool
	How      string // such as "tp_btf"
	Reason   string // why not attached, or why degraded; "" when all is well
}

// LossStatus is one place where events are lost, counted since the start.
type LossStatus struct {
	Stage  string
	Reason string
	Count  uint64
}

// RingStatus is one event ring, in bytes.
type RingStatus struct {
	Name             string
	Size, Used, Peak uint64
}

// CostStatus is what the agent costs.
type CostStatus struct {
	CPURatio         *float64 // of one core, on average
	BPFRatio         *float64 // run time of the BPF programs, of one core
	MemoryBytes      *uint64  // as the kernel accounts it
	MemoryLimitBytes *uint64  // nil also where there is no limit
	BPFMemoryBytes   *uint64
}

// Link is a link of the landing page. Links to anything but http, https and paths
// are made harmless.
type Link struct {
	Title string
	URL   string
}

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// originMemory is the origin of a size that was made smaller to fit the memory limit.
const originMemory config.Origin = "memory limit"

// mapsShare is the part of the memory limit that the maps may take whose size is a
// setting. The rest is for the Go run time, the programs, what cannot be chosen.
const mapsShare = 3.0 / 8

// sizes are the settings that size kernel memory, and the maps that they size.
var sizes = []struct {
	key, sized string
	of         func(*config.Limits) uint64
}{
	{"limits.ringBytes", "kernel_events", func(l *config.Limits) uint64 { return uint64(l.RingBytes) }},
	{"limits.processes", "process_alive", func(l *config.Limits) uint64 { return uint64(l.Processes) }},
	{"limits.flows", "udp_flows", func(l *config.Limits) uint64 { return uint64(l.Flows) }},
	{"limits.udpSockets", "udp_sockets", func(l *config.Limits) uint64 { return uint64(l.UDPSockets) }},
	{"limits.threads", "syscalls_threads", func(l *config.Limits) uint64 { return uint64(l.Threads) }},
	{"limits.connections", "tcp_sockets", func(l *config.Limits) uint64 { return uint64(l.Connections) }},
}

// concessions are which size is halved down to where, one after the other, until
// all fit: first what costs events, then what costs the time of a life, then what
// costs counts, those of connections last.
var concessions = []struct {
	key   string
	floor uint64
}{
	{"limits.ringBytes", 1 << 20},
	{"limits.processes", 16384},
	{"limits.connections", 131072},
	{"limits.flows", 16384},
	{"limits.udpSockets", 16384},
	{"limits.ringBytes", 512 << 10},
	{"limits.threads", 16384},
	{"limits.flows", 4096},
	{"limits.udpSockets", 4096},
	{"limits.connections", 16384},
	{"limits.processes", 4096},
	{"limits.ringBytes", 256 << 10},
}

// layouts are those of the maps in sizes, by their names.
type layouts map[string]bpf.Layout

// bytes is what the maps take whose size is a setting.
func (m layouts) bytes(l *config.Limits) (sum uint64) {
	for _, s := range sizes {
		sum += m[s.sized].Bytes(s.of(l))
	}
	return sum
}

// fit makes sizes smaller until their maps fit a memory limit, and returns those it
// has changed. What somebody has set stays as it is.
func (m layouts) fit(c *config.Config, limit uint64) (changed []string, err error) {
	most := uint64(float64(limit) * mapsShare)
	for _, give := range concessions {
		for m.bytes(&c.Limits) > most {
			now := settingOf(c, give.key)
			origin := c.Origin(give.key)
			if now/2 < give.floor || origin != config.OriginDefault && origin != originMemory {
				break
			}
			if err := c.Set(give.key, strconv.FormatUint(now/2, 10), "the memory limit", originMemory); err != nil {
				return changed, err
			}
		}
	}
	for _, s := range sizes {
		if c.Origin(s.key) == originMemory {
			changed = append(changed, fmt.Sprintf("%s=%d", strings.TrimPrefix(s.key, "limits."), s.of(&c.Limits)))
		}
	}
	return changed, nil
}

func settingOf(c *config.Config, key string) uint64 {
	for _, s := range sizes {
		if s.key == key {
			return s.of(&c.Limits)
		}
	}
	return 0
}

// What the picture of the node may take of the memory limit, and what one
// connection in it takes (bytes). Processes are as many as in the kernel.
const (
	textsShare       = 1.0 / 16
	connectionsShare = 1.0 / 12
	connectionCost   = 170
)

// fitPicture bounds the picture of the node by the memory limit, 0 for none. What
// finds no place in it is counted as evicted.
func fitPicture(o *state.Options, limit uint64) {
	if limit == 0 {
		return
	}
	o.MaxTextBytes = min(o.MaxTextBytes, int(float64(limit)*textsShare))
	o.MaxConnections = min(o.MaxConnections, int(float64(limit)*connectionsShare/connectionCost))
}

package config

import (
	"fmt"
	"maps"
	"math/bits"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sonde-ebpf/sonde/internal/logging"
)

// schema is the whole grammar: every key, how its value is read, and its bounds.
// The fields point into c.
func (c *Config) schema() []field {
	return append([]field{
		{name: "collectors", fields: switches(c.Collectors)},
		{name: "containers", fields: []field{runtimes(&c.Containers.Runtimes)}},
		{name: "limits", fields: []field{
			scalar("ringBytes", ringSize(&c.Limits.RingBytes)),
			scalar("processes", number(&c.Limits.Processes, 1024, 4<<20)),
			scalar("threads", number(&c.Limits.Threads, 1024, 4<<20)),
			scalar("threadsOverflow", number(&c.Limits.ThreadsOverflow, 64, 4<<20)),
			scalar("syscallErrors", number(&c.Limits.SyscallErrors, 64, 65536)),
			scalar("connections", number(&c.Limits.Connections, 1024, 16<<20)),
			scalar("flows", number(&c.Limits.Flows, 1024, 16<<20)),
			scalar("udpSockets", number(&c.Limits.UDPSockets, 1024, 16<<20)),
			scalar("endpoints", number(&c.Limits.Endpoints, 1024, 4<<20)),
			scalar("containers", number(&c.Limits.Containers, 16, 1<<20)),
			scalar("queueEvents", number(&c.Limits.QueueEvents, 256, 1<<20)),
			scalar("queueTextBytes", size(&c.Limits.QueueTextBytes, 64<<10, 1<<30)),
			scalar("textBytes", size(&c.Limits.TextBytes, 1<<20, 4<<30)),
			scalar("series", number(&c.Limits.Series, 64, 1<<20)),
			scalar("seriesIdle", duration(&c.Limits.SeriesIdle, time.Minute, 30*24*time.Hour)),
		}},
	}, c.Runtime.schema()...)
}

func (r *Runtime) schema() []field {
	n := &r.Networking
	return []field{
		{name: "networking", fields: []field{
			{name: "externalIps", fields: []field{
				scalar("enabled", enum(&n.ExternalIPs.Enabled, "ENABLED", "DISABLED")),
				// UNSPECIFIED is what Collector prints where nothing was chosen.
				scalar("direction", enum(&n.ExternalIPs.Direction, "BOTH", "INGRESS", "EGRESS", "UNSPECIFIED")),
			}},
			scalar("maxConnectionsPerMinute", number(&n.MaxConnectionsPerMinute, 0, 1<<30)),
			networks("knownNetworks", &n.KnownNetworks),
			list("ignoredNetworks", &n.IgnoredNetworks, ParsePrefix),
			list("nonAggregatedNetworks", &n.NonAggregatedNetworks, ParsePrefix),
			scalar("afterglowPeriod", duration(&n.AfterglowPeriod, 0, time.Hour)),
		}},
		{name: "processes", fields: []field{scalar("arguments", boolean(&r.Processes.Arguments))}},
		sessions(&r.Sessions),
		{name: "rules", fields: []field{list("files", &r.Rules.Files, nonEmpty)}},
		{name: "log", fields: []field{scalar("level", level(&r.Log.Level))}},
	}
}

// access reads and writes one plain value. set returns, as its error, what to
// write instead of a text that is wrong.
type access struct {
	set func(text string) error
	get func() any
}

// plain accesses dst through parse; dst keeps its value if the text is wrong.
func plain[T any](dst *T, parse func(text string) (T, error)) access {
	return access{
		set: func(text string) error {
			v, err := parse(text)
			if err == nil {
				*dst = v
			}
			return err
		},
		get: value(dst),
	}
}

func value[T any](dst *T) func() any { return func() any { return *dst } }

// scalar is the field of a plain value.
func scalar(name string, a access) field {
	return field{name: name, get: a.get, set: func(d *decoder, key string, n *yaml.Node) {
		text, ok := d.scalar(key, n)
		if !ok {
			return
		}
		if err := a.set(text); err != nil {
			d.fault(key, n, "is %s: %v", quote(text), err)
		}
	}}
}

func switches(on map[string]bool) []field {
	var fields []field
	for _, name := range slices.Sorted(maps.Keys(on)) {
		fields = append(fields, scalar(name, access{
			set: func(text string) error {
				v, err := parseBool(text)
				on[name] = v
				return err
			},
			get: func() any { return on[name] },
		}))
	}
	return fields
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("write true or false")
}

func boolean(dst *bool) access { return plain(dst, parseBool) }

// number reads a whole number; quotes around it do no harm, as protobuf's JSON
// writes 64-bit numbers in quotes.
func number(dst *int, low, high int) access {
	return plain(dst, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("write a whole number from %d to %d", low, high)
		}
		return n, nil
	})
}

func duration(dst *time.Duration, low, high time.Duration) access {
	return plain(dst, func(text string) (time.Duration, error) {
		v, err := time.ParseDuration(text)
		if err != nil || v < low || v > high {
			return 0, fmt.Errorf("write a duration with its unit from %v to %v, such as 90s", low, high)
		}
		return v, nil
	})
}

// size reads a number of bytes.
func size(dst *Bytes, low, high Bytes) access { return plain(dst, sizeWithin(low, high)) }

func sizeWithin(low, high Bytes) func(text string) (Bytes, error) {
	return func(text string) (Bytes, error) {
		v, err := ParseBytes(text)
		if err == nil && (v < low || v > high) {
			err = fmt.Errorf("write a size from %s to %s", low, high)
		}
		return v, err
	}
}

// ringSize reads a size that the kernel takes for a ring buffer.
func ringSize(dst *Bytes) access {
	within := sizeWithin(256<<10, 1<<30)
	return plain(dst, func(text string) (Bytes, error) {
		v, err := within(text)
		if err == nil && v&(v-1) != 0 {
			err = fmt.Errorf("the kernel wants a power of two, such as %s", Bytes(1)<<bits.Len64(uint64(v)))
		}
		return v, err
	})
}

// enum reads one of the values in any case. The value UNSPECIFIED stands for
// the first one.
func enum(dst *string, values ...string) access {
	return plain(dst, func(text string) (string, error) {
		upper := strings.ToUpper(text)
		if !slices.Contains(values, upper) {
			return "", fmt.Errorf("write one of %s", strings.Join(values, ", "))
		}
		if upper == "UNSPECIFIED" {
			upper = values[0]
		}
		return upper, nil
	})
}

func level(dst *string) access {
	return plain(dst, func(text string) (string, error) {
		spec, err := logging.ParseSpec(text)
		return spec.String(), err
	})
}

func nonEmpty(text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("write something or remove the entry")
	}
	return text, nil
}

// list reads a list of plain values and replaces the whole of dst.
func list[T any](name string, dst *[]T, parse func(string) (T, error)) field {
	return field{name: name, get: value(dst), set: func(d *decoder, key string, n *yaml.Node) {
		all := []T{}
		for i, item := range d.items(key, n) {
			at := fmt.Sprintf("%s[%d]", key, i)
			text, ok := d.scalar(at, item)
			if !ok {
				continue
			}
			v, err := parse(text)
			if err != nil {
				d.fault(at, item, "is %s: %v", quote(text), err)
			}
			all = append(all, v)
		}
		*dst = all
	}}
}

func networks(name string, dst *[]Network) field {
	return field{name: name, get: value(dst), set: func(d *decoder, key string, n *yaml.Node) {
		all := []Network{}
		for i, item := range d.items(key, n) {
			var network Network
			at, before := fmt.Sprintf("%s[%d]", key, i), len(d.faults)
			d.mapping(at, item, []field{
				scalar("name", plain(&network.Name, nonEmpty)),
				scalar("cidr", plain(&network.CIDR, ParsePrefix)),
			})
			if !network.CIDR.IsValid() && len(d.faults) == before {
				d.fault(at, item, "has no cidr; write one, such as {name: office, cidr: 203.0.113.0/24}")
			}
			all = append(all, network)
		}
		*dst = all
	}}
}

func runtimes(dst *map[string]string) field {
	known := []string{"containerd", "crio", "docker", "podman"}
	return field{name: "runtimes", get: value(dst), set: func(d *decoder, key string, n *yaml.Node) {
		all := map[string]string{}
		for name, socket := range d.pairs(key, n) {
			at := join(key, name.Value)
			path, ok := d.scalar(at, socket)
			switch {
			case !slices.Contains(known, name.Value):
				d.fault(at, name, "is not a known runtime; known: %s", strings.Join(known, ", "))
			case ok && !filepath.IsAbs(path):
				d.fault(at, socket, "is %s: write the absolute path of a socket", quote(path))
			default:
				all[name.Value] = path
			}
		}
		*dst = all
	}}
}

func sessions(dst *[]Session) field {
	return field{name: "sessions", get: value(dst), set: func(d *decoder, key string, n *yaml.Node) {
		all := []Session{}
		names := map[string]bool{}
		for i, item := range d.items(key, n) {
			at := fmt.Sprintf("%s[%d]", key, i)
			s := Session{}
			for k, v := range d.pairs(at, item) {
				if k.Value == "name" {
					s.Name, _ = d.scalar(join(at, "name"), v)
				}
			}
			if err := item.Decode(&s.Raw); err != nil && item.Kind == yaml.MappingNode {
				d.fault(at, item, "cannot be read: %v", err)
			}
			switch {
			case s.Name == "" && item.Kind == yaml.MappingNode:
				d.fault(at, item, "has no name; give every session a name of its own")
			case names[s.Name] && s.Name != "":
				d.fault(at, item, "has the name %s of another session; give every session a name of its own", quote(s.Name))
			}
			names[s.Name] = true
			all = append(all, s)
		}
		*dst = all
	}}
}

package main

import (
	"testing"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// Sizes follow from the memory limit; what somebody has set does not.
func TestSizesFitTheLimit(t *testing.T) {
	usual := config.New(nil).Limits
	sized := func(ring config.Bytes, processes, threads, connections, flows, udp int) config.Limits {
		l := usual
		l.RingBytes, l.Processes, l.Threads, l.Connections, l.Flows, l.UDPSockets = ring, processes, threads, connections, flows, udp
		return l
	}
	maps, err := bpf.Layouts(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sizes {
		if maps[s.sized].Bytes(1) == 0 {
			t.Errorf("%s sizes map %s, whose layout is not known", s.key, s.sized)
		}
	}
	for _, c := range []struct {
		limit uint64
		set   string
		want  config.Limits
	}{
		{limit: 256 << 20, want: usual},
		{limit: 64 << 20, want: sized(1<<20, 16384, 65536, 131072, 16384, 16384)},
		{limit: 32 << 20, want: sized(512<<10, 16384, 16384, 65536, 4096, 4096)},
		{limit: 1 << 20, want: sized(256<<10, 4096, 16384, 16384, 4096, 4096)},
		{limit: 64 << 20, set: "262144", want: sized(256<<10, 4096, 16384, 262144, 4096, 4096)},
	} {
		conf := config.New(nil)
		if c.set != "" {
			if err := conf.Set("limits.connections", c.set, "--limits.connections", config.OriginFlag); err != nil {
				t.Fatal(err)
			}
		}
		changed, err := layouts(maps).fit(conf, c.limit)
		if err != nil || conf.Limits != c.want {
			t.Errorf("with %d bytes: %+v, want %+v; error %v", c.limit, conf.Limits, c.want, err)
		}
		if whole := conf.Limits == usual; whole != (len(changed) == 0) {
			t.Errorf("with %d bytes: changed %q", c.limit, changed)
		}
		if most := float64(c.limit) * mapsShare; c.set == "" && c.limit >= 32<<20 && float64(layouts(maps).bytes(&conf.Limits)) > most {
			t.Errorf("with %d bytes: maps take %d, more than %.0f", c.limit, layouts(maps).bytes(&conf.Limits), most)
		}
	}
	o := state.Defaults()
	fitPicture(&o, 64<<20)
	if o.MaxTextBytes != 4<<20 || o.MaxConnections != 32896 {
		t.Errorf("picture with 64 MiB: %+v", o)
	}
	whole := state.Defaults()
	fitPicture(&whole, 0)
	if whole.MaxTextBytes != state.Defaults().MaxTextBytes {
		t.Error("a picture without limit was made smaller")
	}
}

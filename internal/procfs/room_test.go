package procfs

import (
	"errors"
	"math"
	"testing"
)

func TestSelfRoom(t *testing.T) {
	for machine, want := range map[string]Room{
		// Of the slice's 256 MiB more is taken than of the service's own limit; a
		// quarter of what is charged is page cache, some of it mapped.
		"v2":     {Limit: 256 << 20, Share: 150.0 / 256, Mapped: 4 << 20},
		"v1":     {Limit: 96 << 20, Share: float64(50<<20) / float64(96<<20)},
		"hybrid": {Limit: 20 << 20}, // the parent, which limits, does not tell its use
	} {
		got, err := fixture(machine).SelfRoom()
		if err != nil || got.Limit != want.Limit || got.Mapped != want.Mapped || math.Abs(got.Share-want.Share) > 0.001 {
			t.Errorf("%s: %+v, %v; want %+v", machine, got, err, want)
		}
	}
	if room, err := fixture("v2-namespace").SelfRoom(); !errors.Is(err, ErrNoData) {
		t.Errorf("without a limit: %+v, %v", room, err)
	}
}

func TestSelfKills(t *testing.T) {
	for machine, want := range map[string][2]uint64{"v2": {1, 4}, "v1": {2, 0}} {
		own, parent, err := fixture(machine).SelfKills()
		if err != nil || own.Kills != want[0] || parent.Kills != want[1] || own.Cgroup == "" {
			t.Errorf("%s: %+v and %+v, %v; want %v", machine, own, parent, err, want)
		}
		if (parent.Cgroup != "") != (want[1] > 0) {
			t.Errorf("%s: parent %+v", machine, parent)
		}
	}
}

package container

import (
	"slices"
	"testing"
	"time"
)

func TestHostRoots(t *testing.T) {
	for rootfs, want := range map[string][]string{
		"": {"/host"}, "/": {"/host"}, "/host/": {"/host"}, "/rootfs": {"/rootfs", "/host"},
	} {
		if got := HostRoots(rootfs); !slices.Equal(got, want) {
			t.Errorf("HostRoots(%q) = %q, want %q", rootfs, got, want)
		}
	}
	if got := HostCgroups("/rootfs"); !slices.Equal(got, []string{"/rootfs/sys/fs/cgroup", "/host/sys/fs/cgroup"}) {
		t.Errorf("HostCgroups = %q", got)
	}
	s := newService(Podman, "", time.Second, HostRoots("/rootfs")...)
	for _, path := range []string{"/run/podman/podman.sock", "/rootfs/run/podman/podman.sock", "/host/run/podman/podman.sock"} {
		if !slices.Contains(s.paths, path) {
			t.Errorf("podman is not looked for at %s", path)
		}
	}
}

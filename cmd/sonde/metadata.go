package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// metadata names the sensor and its machine in JSON logs. What is not known is
// left out; the node's name is that of --node.name.
func (a *agent) metadata() []slog.Attr {
	all := []slog.Attr{
		slog.String("binary_ver", version), slog.String("binary_commit", revision),
		slog.Time("sensor_start_time", a.started), slog.Int("pid", os.Getpid()),
		slog.Int("cpu_core_count", runtime.NumCPU()),
		slog.String("machine_nodename", a.settings.node),
		slog.String("cloud_provider", a.machine.cloudProvider()),
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		all = append(all, slog.Uint64("total_memory", info.Totalram*uint64(info.Unit)))
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		all = append(all,
			slog.String("machine_sysname", unix.ByteSliceToString(u.Sysname[:])),
			slog.String("machine_arch", unix.ByteSliceToString(u.Machine[:])),
			slog.String("machine_kernel_build_time", unix.ByteSliceToString(u.Version[:])))
	}
	if release, err := a.machine.fs.KernelRelease(); err == nil {
		all = append(all, slog.String("machine_kernel_ver", release), slog.String("ebpf_kernel_ver", procfs.KernelDotted(release)))
	}
	if pod := podMetadata(os.Getenv); len(pod) > 0 {
		all = append(all, slog.Attr{Key: "k8s", Value: slog.GroupValue(pod...)})
	}
	return all
}

// podMetadata is what the manifest in deploy/kubernetes tells the sensor about its
// pod, through the environment.
func podMetadata(env func(string) string) (all []slog.Attr) {
	for _, of := range [][2]string{
		{"k8s_pod", "POD_NAME"}, {"k8s_namespace", "POD_NAMESPACE"}, {"k8s_node_id", "SONDE_NODE_NAME"},
		{"k8s_pod_image", "POD_IMAGE"}, {"helm_version", "HELM_CHART"},
	} {
		if value := env(of[1]); value != "" && env("KUBERNETES_SERVICE_HOST") != "" {
			all = append(all, slog.String(of[0], value))
		}
	}
	return all
}

// cloudProvider is whose machine this is, by its firmware: aws, gcp, azure or none.
func (m machine) cloudProvider() string {
	for file, vendors := range map[string]map[string]string{
		"sys_vendor":        {"Amazon EC2": "aws", "Google": "gcp"},
		"chassis_asset_tag": {"7783-7084-3265-9085-8269-3286-77": "azure"},
	} {
		text, err := os.ReadFile(filepath.Join(m.sys, "class", "dmi", "id", file))
		if name := vendors[strings.TrimSpace(string(text))]; err == nil && name != "" {
			return name
		}
	}
	return "none"
}

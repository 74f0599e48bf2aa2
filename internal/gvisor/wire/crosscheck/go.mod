// A module of its own, so that nobody who builds or tests the sensor depends on gVisor.
module github.com/sonde-ebpf/sonde/internal/gvisor/wire/crosscheck

go 1.26.0

require (
	google.golang.org/protobuf v1.36.12
	gvisor.dev/gvisor v0.0.0-20260224225140-573d5e7127a8
)

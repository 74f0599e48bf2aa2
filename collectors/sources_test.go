package collectors_test

import (
	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/internal/shed"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// The real sources fit.
var (
	_ collectors.SyscallSource      = (*bpf.Syscalls)(nil)
	_ collectors.ProcessSource      = (*bpf.Processes)(nil)
	_ collectors.TCPSource          = (*bpf.TCP)(nil)
	_ collectors.DropSource         = (*bpf.Drops)(nil)
	_ collectors.LedgerSource       = (*bpf.Kernel)(nil)
	_ collectors.ProgramSource      = (*bpf.Kernel)(nil)
	_ collectors.RunStatsSource     = (*bpf.StatsSampler)(nil)
	_ collectors.ReaderSource       = (*bpf.Events)(nil)
	_ collectors.RingSource         = (*bpf.Events)(nil)
	_ collectors.EventTimingSource  = (*stream.Pipeline)(nil)
	_ collectors.SanitizedSource    = (*event.Editor)(nil)
	_ collectors.LossSource         = (*stream.Manager)(nil)
	_ collectors.SinkTimingSource   = (*stream.Manager)(nil)
	_ collectors.SessionSource      = (*stream.Manager)(nil)
	_ collectors.DrainSource        = (*stream.Pipeline)(nil)
	_ collectors.CanarySource       = (*stream.Pipeline)(nil)
	_ collectors.OperationSource    = (*stream.Timers)(nil)
	_ collectors.CgroupMemorySource = procfs.FS{}
	_ collectors.ThrottlingSource   = procfs.FS{}
	_ collectors.PressureSource     = procfs.FS{}
	_ collectors.MappedSource       = collectors.SelfStatus{}
	_ collectors.TerminationSource  = (*blackbox.Box)(nil)
	_ collectors.ShedSource         = (*shed.Governor)(nil)
	_ collectors.LevelSource        = (*logging.Levels)(nil)
	_ collectors.ExemplarSource     = (*collectors.Exemplars)(nil)
	_ collectors.GVisorSource       = (*gvisor.Receiver)(nil)
	_ collectors.ProfileSource      = (*profile.Node)(nil)
	_ collectors.ContainerSource    = (*container.Containers)(nil)
	_ collectors.WorkloadSource     = (*bpf.Workloads)(nil)
	_ collectors.ResidentSource     = (*container.Containers)(nil)
)

package tetragon

import (
	"context"
	"runtime"
	"slices"
	"strings"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sonde-ebpf/sonde/internal/logging"
)

// GetHealth tells whether the sensor is well, and if not, why.
func (s *service) GetHealth(_ context.Context, r *api.GetHealthStatusRequest) (*api.GetHealthStatusResponse, error) {
	if kinds := r.GetEventSet(); len(kinds) > 0 && !slices.Contains(kinds, api.HealthStatusType_HEALTH_STATUS_TYPE_STATUS) {
		return &api.GetHealthStatusResponse{}, nil
	}
	h := &api.HealthStatus{Event: api.HealthStatusType_HEALTH_STATUS_TYPE_STATUS, Status: api.HealthStatusResult_HEALTH_STATUS_RUNNING, Details: "running"}
	if why := s.from.Unwell(); len(why) > 0 {
		h.Status, h.Details = api.HealthStatusResult_HEALTH_STATUS_ERROR, strings.Join(why, "; ")
	}
	return &api.GetHealthStatusResponse{HealthStatus: []*api.HealthStatus{h}}, nil
}

// GetVersion tells the sensor's version.
func (s *service) GetVersion(context.Context, *api.GetVersionRequest) (*api.GetVersionResponse, error) {
	return &api.GetVersionResponse{Version: s.opts.Version}, nil
}

// GetInfo tells of the build, the probes and the effective settings.
func (s *service) GetInfo(context.Context, *api.GetInfoRequest) (*api.GetInfoResponse, error) {
	r := &api.GetInfoResponse{
		Version: s.opts.Version, Name: "sonde",
		Build: &api.GetInfoResponse_BuildInfo{GoVersion: runtime.Version(), Commit: s.opts.Revision},
	}
	for _, p := range s.from.Probes() {
		r.Probes = append(r.Probes, &api.GetInfoResponse_Probe{Name: p.Name, Enabled: wrapperspb.Bool(p.Attached)})
	}
	for _, v := range s.from.Settings() {
		value, err := anypb.New(wrapperspb.String(v.Value))
		if err != nil {
			return nil, status.Errorf(codes.Internal, "encode setting %s: %v", v.Name, err)
		}
		r.Conf = append(r.Conf, &api.GetInfoResponse_ConfVal{Key: v.Name, Value: value})
	}
	return r, nil
}

// ListSensors lists the probes.
func (s *service) ListSensors(context.Context, *api.ListSensorsRequest) (*api.ListSensorsResponse, error) {
	r := &api.ListSensorsResponse{}
	for _, p := range s.from.Probes() {
		r.Sensors = append(r.Sensors, &api.SensorStatus{Name: p.Name, Enabled: p.Attached, Collection: "sonde"})
	}
	return r, nil
}

// ListTracingPolicies lists none: there are no policies.
func (s *service) ListTracingPolicies(context.Context, *api.ListTracingPoliciesRequest) (*api.ListTracingPoliciesResponse, error) {
	return &api.ListTracingPoliciesResponse{}, nil
}

// levels are the API's names for ours. Of several for one of ours the first is told.
var levels = []struct {
	api  api.LogLevel
	name string
}{
	{api.LogLevel_LOG_LEVEL_TRACE, "trace"},
	{api.LogLevel_LOG_LEVEL_DEBUG, "debug"},
	{api.LogLevel_LOG_LEVEL_INFO, "info"},
	{api.LogLevel_LOG_LEVEL_WARN, "warn"},
	{api.LogLevel_LOG_LEVEL_ERROR, "error"},
	{api.LogLevel_LOG_LEVEL_FATAL, "off"},
	{api.LogLevel_LOG_LEVEL_PANIC, "off"},
}

// GetDebug tells the log level of all targets that have none of their own.
func (s *service) GetDebug(_ context.Context, r *api.GetDebugRequest) (*api.GetDebugResponse, error) {
	if r.GetFlag() != api.ConfigFlag_CONFIG_FLAG_LOG_LEVEL {
		return nil, status.Error(codes.Unimplemented, "processes are shown by sonde's introspection, at /state/processes")
	}
	now := s.from.Levels.Spec().Default()
	for _, l := range levels {
		if l.name == now {
			return &api.GetDebugResponse{Flag: r.GetFlag(), Arg: &api.GetDebugResponse_Level{Level: l.api}}, nil
		}
	}
	return nil, status.Errorf(codes.Internal, "the API has no name for level %s", now)
}

// SetDebug sets the log level of every target.
func (s *service) SetDebug(_ context.Context, r *api.SetDebugRequest) (*api.SetDebugResponse, error) {
	level, given := r.GetArg().(*api.SetDebugRequest_Level)
	if r.GetFlag() != api.ConfigFlag_CONFIG_FLAG_LOG_LEVEL || !given {
		return nil, status.Error(codes.InvalidArgument, "only the log level can be set")
	}
	for _, l := range levels {
		if l.api != level.Level {
			continue
		}
		spec, err := logging.ParseSpec(l.name)
		if err != nil {
			return nil, status.Errorf(codes.Internal, "%v", err)
		}
		s.from.Levels.Set(spec)
		s.log.Info("log level set", "level", l.name)
		return &api.SetDebugResponse{Flag: r.GetFlag(), Arg: &api.SetDebugResponse_Level{Level: level.Level}}, nil
	}
	return nil, status.Errorf(codes.InvalidArgument, "there is no level %v", level.Level)
}

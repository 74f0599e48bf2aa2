// Package tetragon serves Tetragon's API over gRPC, so that clients written for it,
// tetra among them, are clients of this sensor. What the API asks of a sensor that
// enforces policies is answered Unimplemented.
//
// Every stream of events is a session with one sink, with a queue and a ledger of its
// own: a client that does not keep up costs its own events and nobody's time.
package tetragon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// Bounds of what a client may take.
const (
	MaxRequestBytes = 64 << 10
	MaxCalls        = 32 // of one connection, at once
	handshakeTime   = 5 * time.Second
	idleTime        = 15 * time.Minute // of a connection without a call
)

// Options configure a Server.
type Options struct {
	Logger *slog.Logger
	// Address is unix:///path, or host:port on loopback.
	Address string
	// InfoFile is where clients look for the address; "" writes none.
	InfoFile string
	Version  string
	Revision string
}

// Sources is where the answers come from. Its functions are called concurrently.
type Sources struct {
	Sessions *stream.Manager
	Machine  sink.Machine
	Levels   *logging.Levels
	// Unwell returns why the sensor is not well, nothing when it is.
	Unwell   func() []string
	Probes   func() []Probe
	Settings func() []Setting
}

// Probe is one probe of the sensor.
type Probe struct {
	Name     string
	Attached bool
}

// Setting is one effective setting.
type Setting struct{ Name, Value string }

// Server serves the API. Listen opens its address and Serve answers.
type Server struct {
	opts     Options
	log      *slog.Logger
	listener net.Listener
}

// New returns a Server that does nothing yet.
func New(o Options) *Server { return &Server{opts: o, log: o.Logger} }

// Address is where the server listens, as clients write it; valid after Listen.
func (s *Server) Address() string { return url(s.listener.Addr()) }

// Serve answers from the sources until ctx ends, then ends the streams and closes
// the listener.
func (s *Server) Serve(ctx context.Context, from Sources) error {
	defer s.publish()()
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(MaxRequestBytes), grpc.MaxConcurrentStreams(MaxCalls), grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime}),
		grpc.WaitForHandlers(true),
	)
	api.RegisterFineGuidanceSensorsServer(server, &service{opts: s.opts, log: s.log, from: from, stopping: ctx})
	s.log.Info("listening", "address", s.Address())
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve Tetragon's API: %w", err)
	case <-ctx.Done():
		stop(server)
		return <-served
	}
}

// drainTime is for the streams to deliver what waits when the sensor stops.
const drainTime = time.Second

// stop lets the handlers return, which they do when they see the sensor stop, and
// cuts off clients that take nothing.
func stop(server *grpc.Server) {
	cut := time.AfterFunc(drainTime, server.Stop)
	defer cut.Stop()
	server.GracefulStop()
}

// Close closes the listener of a Server that was never served.
func (s *Server) Close() error {
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// service implements the API.
type service struct {
	api.UnimplementedFineGuidanceSensorsServer

	opts     Options
	log      *slog.Logger
	from     Sources
	stopping context.Context //nolint:containedctx // that of Serve, of which every stream is part
}

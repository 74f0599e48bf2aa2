package introspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/internal/logging"
)

// Limits of the server. Those of a single request are in route.go.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 2 * time.Second // less than any time to stop that is not meant as "at once"
	maxHeaderBytes    = 16 << 10
	defaultRequests   = 4
)

// Options configure a Server.
type Options struct {
	Logger *slog.Logger
	// ListenAddresses are the addresses that were asked for: host:port or
	// unix:///path. Each of them must open. One that other nodes can reach needs a
	// web configuration file that asks for credentials.
	ListenAddresses []string
	// DefaultAddress is one more, that nobody asked for: where it is taken, the
	// Server says so and goes on without. "" is none.
	DefaultAddress string
	// WebConfigFile is an exporter-toolkit file (TLS, authentication) for the TCP
	// addresses; "" is plain HTTP. Unix sockets are protected by their mode.
	WebConfigFile string
	// EnableWrite switches the write verbs on or off; nil switches them on where
	// only this node can ask.
	EnableWrite *bool
	// MaxRequests bounds the large answers under way at once, 0 for 4. Each may take
	// 12 MiB for 100 000 connections.
	MaxRequests int
	Version     string
}

// Server serves the routes. Listen opens its addresses and Serve answers.
type Server struct {
	opts   Options
	log    *slog.Logger
	routes []route
	slots  chan struct{}

	mu    sync.Mutex
	doors []door
}

// New returns a Server that does nothing yet.
func New(o Options) *Server {
	if o.MaxRequests <= 0 {
		o.MaxRequests = defaultRequests
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{opts: o, log: o.Logger, routes: routes(), slots: make(chan struct{}, o.MaxRequests)}
}

// Addresses returns the addresses listened on, once Listen has succeeded.
func (s *Server) Addresses() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]net.Addr, len(s.doors))
	for i, d := range s.doors {
		all[i] = d.listener.Addr()
	}
	return all
}

// URLs returns the same addresses as clients write them: unix:///path,
// http://host:port or https://host:port.
func (s *Server) URLs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, len(s.doors))
	for i, d := range s.doors {
		all[i] = d.url()
	}
	return all
}

// Serve answers from the sources until ctx ends or a listener fails, then lets the
// requests under way finish. It closes the listeners.
func (s *Server) Serve(ctx context.Context, sources Sources) error {
	s.mu.Lock()
	doors := s.doors
	s.mu.Unlock()
	if len(doors) == 0 {
		return errors.New("serve introspection: not listening")
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range doors {
		server := s.newServer(d, sources)
		g.Go(func() error { return s.serve(d, server) })
		g.Go(func() error {
			<-ctx.Done()
			return shutdown(server)
		})
		s.log.Info("listening", "address", d.listener.Addr().String(), "write", d.write, "web_config", d.webConfig)
	}
	return g.Wait()
}

// Close closes the listeners of a Server that was never served.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, d := range s.doors {
		errs = append(errs, d.listener.Close())
	}
	s.doors = nil
	return errors.Join(errs...)
}

func (s *Server) newServer(d door, sources Sources) *http.Server {
	return &http.Server{
		Handler:           s.handler(sources, d),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout + readHeaderTimeout,
		WriteTimeout:      requestTimeout + readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext:       rememberPeer,
	}
}

func (s *Server) serve(d door, server *http.Server) error {
	flags := &web.FlagConfig{WebConfigFile: &d.webConfig}
	err := web.Serve(d.listener, server, flags, slog.New(warnings{s.log.Handler()}))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve introspection on %s: %w", d.listener.Addr(), err)
}

// shutdown waits for the requests under way, and ends them where they take too long.
func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("shut introspection down: %w", err), server.Close())
	}
	return nil
}

// warnings passes on what is a warning or worse: the toolkit reports its listeners
// at level info, which the Server does itself.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// auditTarget is the log target of what write verbs leave on record.
const auditTarget = "introspect.audit"

// audit puts on record what a write verb did, or why it did not.
func (s *Server) audit(c *call, d door, err error) {
	if err == nil && c.change == "" {
		return // it only read
	}
	attrs := []any{
		"method", c.r.Method, "path", c.r.URL.Path, "client", client(c.r), "listener", d.listener.Addr().String(),
		"change", c.change, "ok", err == nil,
	}
	if user, _, ok := c.r.BasicAuth(); ok {
		attrs = append(attrs, "user", quote(user))
	}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	s.log.With(logging.TargetKey, auditTarget).Info("introspection write", attrs...)
}

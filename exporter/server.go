package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// Limits of the server.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 60 * time.Second // a scrape over a slow line
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 2 * time.Second // less than any time to stop that is not meant as "at once"
	maxHeaderBytes    = 16 << 10
)

// Listen checks the web configuration and opens every listener. On an error nothing
// stays open. A port in use answers errors.Is(err, syscall.EADDRINUSE).
func (e *Exporter) Listen() (err error) {
	opened := e.opts.Listeners
	defer func() {
		if err != nil {
			for _, l := range opened {
				_ = l.Close()
			}
		}
	}()
	if err := web.Validate(e.opts.WebConfigFile); err != nil {
		return fmt.Errorf("read web config %s: %w", e.opts.WebConfigFile, err)
	}
	if len(opened) == 0 {
		if opened, err = listenAll(e.opts.ListenAddresses); err != nil {
			return err
		}
	}
	e.mu.Lock()
	e.listeners = opened
	e.mu.Unlock()
	return nil
}

// listenAll returns what it has opened also where it fails.
func listenAll(addresses []string) (opened []net.Listener, err error) {
	if len(addresses) == 0 {
		return nil, errors.New("listen: no address")
	}
	for _, address := range addresses {
		l, err := listen(address)
		if err != nil {
			return opened, fmt.Errorf("listen on %s: %w", address, err)
		}
		opened = append(opened, l)
	}
	return opened, nil
}

func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, unixsocket.Scheme)
	if !unix {
		return net.Listen("tcp", address)
	}
	return unixsocket.Listen("unix", path)
}

// Addresses returns the addresses listened on, once Listen has succeeded: with the
// real port where 0 was asked for.
func (e *Exporter) Addresses() []net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	addresses := make([]net.Addr, len(e.listeners))
	for i, l := range e.listeners {
		addresses[i] = l.Addr()
	}
	return addresses
}

// Serve serves on the open listeners until ctx ends or one of them fails, then lets
// the requests under way finish.
func (e *Exporter) Serve(ctx context.Context) error {
	e.mu.Lock()
	listeners := e.listeners
	e.mu.Unlock()
	if len(listeners) == 0 {
		return errors.New("serve: not listening")
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		server := e.newServer() // one each: the toolkit changes the server it is given
		g.Go(func() error { return e.serve(l, server) })
		g.Go(func() error {
			<-ctx.Done()
			return shutdown(server)
		})
		e.log.Info("listening", "address", l.Addr().String(), "web_config", e.opts.WebConfigFile)
	}
	return g.Wait()
}

// Close closes the listeners that Serve has not been given, socket files included.
func (e *Exporter) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, l := range e.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // which Serve has done
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run is Listen and Serve.
func (e *Exporter) Run(ctx context.Context) error {
	if err := e.Listen(); err != nil {
		return err
	}
	return e.Serve(ctx)
}

func (e *Exporter) newServer() *http.Server {
	return &http.Server{
		Handler:           e.Handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
}

func (e *Exporter) serve(l net.Listener, server *http.Server) error {
	flags := &web.FlagConfig{WebConfigFile: &e.opts.WebConfigFile}
	err := web.Serve(l, server, flags, slog.New(warnings{e.log.Handler()}))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// shutdown waits for the requests under way, and ends them where they take too long.
func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil { // somebody holds a connection: it is cut
		return server.Close()
	}
	return nil
}

// warnings passes on what is a warning or worse. The toolkit reports its listeners
// at level info, which the exporter does itself.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

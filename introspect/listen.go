package introspect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// ErrOpenToAll is the error of an address that other nodes can reach without
// credentials.
var ErrOpenToAll = errors.New("other nodes can reach it and nothing asks them for credentials; " +
	"listen on 127.0.0.1, or give a web configuration file with basic_auth_users or a required client certificate")

// door is one open listener and what may pass through it.
type door struct {
	listener  net.Listener
	webConfig string
	tls       bool
	write     bool
	// local says that it is a TCP address without credentials: whoever can make a
	// browser on this node ask must not get an answer.
	local bool
}

// Listen opens every address, or none. An address that was asked for and is taken
// answers errors.Is(err, syscall.EADDRINUSE); one that is open to other nodes
// without credentials ErrOpenToAll.
func (s *Server) Listen() (err error) {
	secured, err := s.readWebConfig()
	if err != nil {
		return err
	}
	var doors []door
	defer func() {
		if err != nil {
			for _, d := range doors {
				_ = d.listener.Close()
			}
		}
	}()
	for _, address := range s.opts.ListenAddresses {
		d, err := s.open(address, secured)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
		doors = append(doors, d)
	}
	if address := s.opts.DefaultAddress; address != "" {
		switch d, err := s.open(address, secured); {
		case errors.Is(err, syscall.EADDRINUSE) && len(doors) > 0:
			s.log.Warn("default introspection address is taken; going on without it", "address", address, "serving", doors[0].listener.Addr().String())
		case err != nil:
			return fmt.Errorf("listen on %s: %w", address, err)
		default:
			doors = append(doors, d)
		}
	}
	if len(doors) == 0 {
		return errors.New("listen for introspection: no address")
	}
	s.mu.Lock()
	s.doors = doors
	s.mu.Unlock()
	return nil
}

func (s *Server) open(address string, secured security) (door, error) {
	if path, unix := strings.CutPrefix(address, unixsocket.Scheme); unix {
		l, err := unixsocket.Listen("unix", path)
		return door{listener: l, write: s.mayWrite(true)}, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return door{}, err
	}
	local := l.Addr().(*net.TCPAddr).IP.IsLoopback() // of the real address: a name may be anything
	if !local && !secured.authenticated {
		return door{}, errors.Join(ErrOpenToAll, l.Close())
	}
	return door{
		listener: l, webConfig: s.opts.WebConfigFile, tls: secured.tls,
		write: s.mayWrite(local), local: local && !secured.authenticated,
	}, nil
}

// url is the address of a door as clients write it.
func (d *door) url() string {
	address := d.listener.Addr()
	switch {
	case address.Network() == "unix":
		return unixsocket.Scheme + address.String()
	case d.tls:
		return "https://" + address.String()
	}
	return "http://" + address.String()
}

func (s *Server) mayWrite(local bool) bool {
	if s.opts.EnableWrite != nil {
		return *s.opts.EnableWrite
	}
	return local
}

// security is what a web configuration file asks of clients.
type security struct{ authenticated, tls bool }

// readWebConfig checks the web configuration file and tells what it asks for.
func (s *Server) readWebConfig() (asks security, err error) {
	path := s.opts.WebConfigFile
	if path == "" {
		return asks, nil
	}
	if err := web.Validate(path); err != nil {
		return asks, fmt.Errorf("read web config %s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return asks, fmt.Errorf("read web config: %w", err)
	}
	var config struct {
		Users map[string]string `yaml:"basic_auth_users"`
		TLS   struct {
			Cert       string `yaml:"cert"`
			CertFile   string `yaml:"cert_file"`
			ClientAuth string `yaml:"client_auth_type"`
		} `yaml:"tls_server_config"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return asks, fmt.Errorf("read web config %s: %w", path, err)
	}
	return security{
		authenticated: len(config.Users) > 0 || config.TLS.ClientAuth == "RequireAndVerifyClientCert",
		tls:           config.TLS.Cert != "" || config.TLS.CertFile != "",
	}, nil
}

// guard keeps out what a browser on this node was made to ask: a page from
// elsewhere that writes, and one whose name was made to point here.
func (d door) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := cross.Check(r); err != nil {
			writeProblem(w, problemf(http.StatusForbidden, "%v", err))
			return
		}
		if d.local && !localHost(r.Host) {
			writeProblem(w, problemf(http.StatusForbidden, "host %s is not this node: ask for localhost or an address", quote(r.Host)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// localHost reports whether the Host of a request is an address or localhost, not
// a name that somebody else may have pointed here.
func localHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "" || name == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}

type peerKey struct{}

// rememberPeer notes who is at the other end of a Unix socket.
func rememberPeer(ctx context.Context, c net.Conn) context.Context {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *syscall.Ucred
	if err := raw.Control(func(fd uintptr) {
		peer, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) // a record without it is still one
	}); err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, fmt.Sprintf("uid %d, pid %d", peer.Uid, peer.Pid))
}

// client names who asks.
func client(r *http.Request) string {
	if peer, ok := r.Context().Value(peerKey{}).(string); ok {
		return peer
	}
	return r.RemoteAddr
}

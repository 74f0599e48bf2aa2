package container

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// client speaks to one socket of a runtime. It may be used from any goroutine.
type client interface {
	// ping proves that the other side answers, and says who it is.
	ping(ctx context.Context) (version string, runtime Runtime, err error)
	// inspect returns what the runtime says of a container, errNotFound if it does
	// not know it. Only the fields that the runtime says are set.
	inspect(ctx context.Context, ref Ref) (Meta, error)
	close()
}

// newClient returns the client that a runtime wants. It connects to nothing.
func newClient(r Runtime, path string) (client, error) {
	switch r {
	case Containerd:
		return newContainerd(path)
	case CRIO:
		return newCRI(path)
	}
	return newDocker(path), nil
}

// sockets are the usual places of each runtime's socket: its own default, then
// those of distributions that bring a runtime with them. Each is also looked for
// below HostRoots. Sockets that users own are not here: what they answer would be
// taken for the truth about other users' containers.
var sockets = [Runtimes][]string{
	Containerd: {
		"/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock",
		"/run/k3s/containerd/containerd.sock", "/run/k0s/containerd.sock", "/var/snap/microk8s/common/run/containerd.sock",
	},
	CRIO:   {"/run/crio/crio.sock", "/var/run/crio/crio.sock"},
	Docker: {"/run/docker.sock", "/var/run/docker.sock"},
	Podman: {"/run/podman/podman.sock", "/var/run/podman/podman.sock"},
}

// RuntimeStatus says whether a runtime can be asked.
type RuntimeStatus struct {
	Runtime Runtime
	Up      bool
	Reason  Reason   // why not
	Fault   string   // the same in words; empty if Up
	Hint    string   // what to do about it; empty if Up
	Sockets []string // those that answer
	Version string   // of the first that answers
}

// service is one runtime with all its sockets.
type service struct {
	runtime    Runtime
	paths      []string
	configured bool          // somebody has said where it listens
	deadline   time.Duration // of one call
	seen       atomic.Bool   // containers of it are on this machine

	endpoints atomic.Pointer[[]*endpoint] // those that answer; replaced as a whole
	status    atomic.Pointer[RuntimeStatus]
	results   [Results]atomic.Uint64
	duration  *metric.Live
}

// endpoint is a socket that has answered.
type endpoint struct {
	path   string
	socket socket
	client client
}

// newService returns a service that has not been checked yet. Without a path it
// looks at the usual places, and at those below roots.
func newService(r Runtime, path string, deadline time.Duration, roots ...string) *service {
	s := &service{runtime: r, configured: path != "", deadline: deadline, duration: metric.NewLive()}
	if s.configured {
		s.paths = []string{path}
	} else {
		for _, usual := range sockets[r] {
			s.paths = append(s.paths, usual)
			for _, root := range roots {
				s.paths = append(s.paths, filepath.Join(root, usual))
			}
		}
	}
	s.endpoints.Store(&[]*endpoint{})
	s.status.Store(&RuntimeStatus{Runtime: r, Reason: Unused})
	return s
}

// check looks at every socket and replaces endpoints and status. It reports
// whether the status has changed. It is called by one goroutine at a time.
func (s *service) check(ctx context.Context) (changed bool) {
	var (
		now   = RuntimeStatus{Runtime: s.runtime, Reason: Missing}
		found []*endpoint
	)
	old := *s.endpoints.Load()
	for _, path := range s.paths {
		e, version, err := s.try(ctx, path, old, found)
		switch reason := reasonOf(err); {
		case err == nil && e != nil:
			found = append(found, e)
			now.Sockets = append(now.Sockets, path)
			if !now.Up {
				now.Up, now.Version = true, version
			}
		case err != nil && reason >= now.Reason && (reason != Missing || s.configured):
			now.Reason, now.Fault = reason, err.Error()
		}
	}
	switch {
	case now.Up:
		now.Reason, now.Fault = Answers, ""
	case now.Reason == Missing && !s.configured && !s.seen.Load():
		now.Reason = Unused
	case now.Reason == Missing && !s.configured:
		now.Fault = fmt.Sprintf("none of %v is there", s.paths)
	}
	now.Hint = now.Reason.hint(s)
	s.endpoints.Store(&found)
	for _, e := range old {
		if !slices.Contains(found, e) {
			e.client.close()
		}
	}
	before := s.status.Swap(&now)
	return before.Up != now.Up || before.Reason != now.Reason
}

// try looks at one path. Neither endpoint nor error means that there is nothing to
// use: the socket is one of found under another name, or another runtime's.
func (s *service) try(ctx context.Context, path string, old, found []*endpoint) (*endpoint, string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	at, err := openSocket(ctx, path)
	if err != nil {
		return nil, "", err
	}
	same := func(e *endpoint) bool { return e.socket == at }
	if slices.ContainsFunc(found, same) {
		return nil, "", nil
	}
	e := &endpoint{path: path, socket: at}
	if i := slices.IndexFunc(old, same); i >= 0 {
		e = old[i]
	} else if e.client, err = newClient(s.runtime, path); err != nil {
		return nil, "", err
	}
	version, runtime, err := e.client.ping(ctx)
	if err == nil && (s.configured || runtime == s.runtime) {
		return e, version, nil
	}
	if !slices.Contains(old, e) {
		e.client.close()
	}
	return nil, "", err
}

// CheckRuntimes looks once at the sockets of every runtime, as a sensor with these
// options would.
func CheckRuntimes(ctx context.Context, o Options) []RuntimeStatus {
	o.setDefaults()
	services := newServices(o)
	checkAll(ctx, services)
	all := make([]RuntimeStatus, len(services))
	for i, s := range services {
		all[i] = *s.status.Load()
		s.close()
	}
	return all
}

// newServices returns one for each runtime.
func newServices(o Options) (all []*service) {
	for _, r := range Known() {
		all = append(all, newService(r, o.Runtimes.Runtimes[r.String()], o.CallDeadline, HostRoots(o.Rootfs)...))
	}
	return all
}

// inspect asks every socket that answers about a container, within the deadline
// for each, and counts the result. Without a socket the error wraps errNoSocket.
func (s *service) inspect(ctx context.Context, ref Ref) (Meta, error) {
	endpoints := *s.endpoints.Load()
	if len(endpoints) == 0 {
		return Meta{}, fmt.Errorf("%w: %s", errNoSocket, s.status.Load().Reason)
	}
	err := errNotFound
	for _, e := range endpoints {
		var m Meta
		if m, err = s.inspectAt(ctx, e, ref); !errors.Is(err, errNotFound) {
			return m, err
		}
	}
	return Meta{}, err
}

// expected reports whether the runtime ought to answer: somebody has configured it,
// containers of it are here, or something stands where its socket should be.
func (s *service) expected() bool { return s.status.Load().Reason != Unused }

// errNoSocket says that a runtime cannot be asked; its status tells why.
var errNoSocket = errors.New("no socket that answers")

func (s *service) inspectAt(ctx context.Context, e *endpoint, ref Ref) (Meta, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	begin := time.Now()
	m, err := e.client.inspect(ctx, ref)
	s.duration.ObserveDuration(time.Since(begin))
	s.results[resultOf(err)].Add(1)
	m.Runtime = s.runtime
	return m, err
}

// close ends every connection.
func (s *service) close() {
	for _, e := range *s.endpoints.Swap(&[]*endpoint{}) {
		e.client.close()
	}
}

// Result is what became of a lookup.
type Result uint8

// The results. Hit, Miss and Late are of the sensor's own table, the others of a call
// to a runtime.
const (
	Hit Result = iota
	Miss
	Late // events that waited for a container's name went on without it
	Found
	NotFound
	Error
	TimedOut

	Results = int(TimedOut) + 1
)

var resultNames = [Results]string{"hit", "miss", "late", "found", "not_found", "error", "timeout"}

// String returns the result as a label spells it.
func (r Result) String() string { return resultNames[r] }

func resultOf(err error) Result {
	switch {
	case err == nil:
		return Found
	case errors.Is(err, errNotFound):
		return NotFound
	case reasonOf(err) == Timeout:
		return TimedOut
	}
	return Error
}

// checkAll checks all services at once and returns those that have changed.
func checkAll(ctx context.Context, all []*service) (changed []*service) {
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
	)
	for _, s := range all {
		wait.Go(func() {
			if s.check(ctx) {
				mu.Lock()
				defer mu.Unlock()
				changed = append(changed, s)
			}
		})
	}
	wait.Wait()
	return changed
}

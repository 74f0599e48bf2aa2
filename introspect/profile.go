package introspect

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/profile"
)

// maxSwitch is the largest body that switches a recorder, in bytes: a word.
const maxSwitch = 16

// How long is recorded where the request does not say, in seconds.
const (
	defaultProfileSeconds = 30
	defaultTraceSeconds   = 1
	defaultNodeSeconds    = 10
)

// defaultOver is how long a call takes that is slow.
const defaultOver = 10 * time.Millisecond

// maxPID is the largest pid that a kernel of 64 bits gives, less one.
const maxPID = 1<<22 - 1

// profileRoutes are the routes that record something.
func profileRoutes() []route {
	recorder := func(about string, get, post func(*call, *profile.Self) error) map[string]verb {
		return map[string]verb{
			"GET":  {about: about, handle: ofSelf(get)},
			"POST": {about: "Switches the record `on` or `off`, or forgets it (`empty`).", write: true, maxBody: maxSwitch, handle: ofSelf(post)},
		}
	}
	return []route{
		{path: "/profile", verbs: map[string]verb{
			"GET": {about: "The states of the records: `empty`, `on`, or `off` with something to get.", handle: ofSelf((*call).profiles)},
		}},
		{path: "/profile/heap", verbs: recorder("The sensor's heap as a pprof profile: what was allocated and not freed between `on` and `off`, "+
			"or since `on`. Without a record, all of it.", (*call).heap, (*call).switchHeap)},
		{path: "/profile/cpu", verbs: recorder("The sensor's processor time between `on` and `off` as a pprof profile.",
			(*call).cpu, (*call).switchCPU)},
		{path: "/profile/node", verbs: map[string]verb{
			"GET": {about: "What runs on all processors of the node as a pprof profile, by user and kernel stack.", records: true,
				params: []string{"seconds", "hz", "container", "pid"}, handle: ofNode(profile.CPU)},
		}},
		{path: "/profile/drops", verbs: map[string]verb{
			"GET": {about: "Where the kernel drops packets and why, as a pprof profile by kernel stack.", records: true,
				params: []string{"seconds"}, handle: ofNode(profile.Drops)},
		}},
		{path: "/profile/slow", verbs: map[string]verb{
			"GET": {about: "Where processes call what takes long, as a pprof profile by user stack.", records: true,
				params: []string{"seconds", "syscall", "over", "container", "pid"}, handle: ofNode(profile.Slow)},
		}},
		{path: "/debug/pprof/{$}", verbs: map[string]verb{
			"GET": {about: "The profiles of Go's run time.", handle: ofSelf((*call).runtimeProfiles)},
		}},
		{path: "/debug/pprof/profile", verbs: map[string]verb{
			"GET": {about: "The sensor's processor time, for `go tool pprof`.", params: []string{"seconds"}, records: true,
				handle: ofSelf((*call).recordCPU)},
		}},
		{path: "/debug/pprof/trace", verbs: map[string]verb{
			"GET": {about: "The sensor's execution, for `go tool trace`.", params: []string{"seconds"}, records: true,
				handle: ofSelf((*call).trace)},
		}},
		{path: "/debug/pprof/{name}", verbs: map[string]verb{
			"GET": {about: "A profile of Go's run time: `heap`, `goroutine` or another of the list.", params: []string{"debug", "gc"},
				handle: ofSelf((*call).runtimeProfile)},
		}},
	}
}

// ofNode is the handler of a route that takes a profile of the node.
func ofNode(kind profile.Kind) func(*call) error {
	return func(c *call) error {
		if c.sources.Node == nil {
			return missing("profiles of the node")
		}
		request, err := c.profileRequest(kind)
		if err != nil {
			return err
		}
		return c.profile(kind.String(), func() ([]byte, error) { return c.sources.Node.Record(c.r.Context(), request) })
	}
}

// profileRequest reads what is to be recorded.
func (c *call) profileRequest(kind profile.Kind) (r profile.Request, err error) {
	r = profile.Request{Kind: kind, Hz: profile.DefaultHz, Over: defaultOver, Syscall: c.values.Get("syscall")}
	if r.Duration, err = c.seconds(defaultNodeSeconds); err != nil {
		return r, err
	}
	if err := c.number("hz", &r.Hz, 1, profile.MaxHz); err != nil {
		return r, err
	}
	pid := 0
	if err := c.number("pid", &pid, 1, maxPID); err != nil {
		return r, err
	}
	r.PID = uint32(pid)
	if c.values.Has("over") {
		r.Over, err = time.ParseDuration(c.values.Get("over"))
		if err != nil || r.Over < 0 || r.Over > maxSeconds*time.Second {
			return r, problemf(http.StatusBadRequest, "parameter over is %s: write a duration up to %ds, such as 10ms", quote(c.values.Get("over")), maxSeconds)
		}
	}
	r.Container, err = c.profiledContainer()
	return r, err
}

// profiledContainer reads which container is to be recorded: its whole id, "" for all.
func (c *call) profiledContainer() (string, error) {
	id := c.values.Get("container")
	switch {
	case !c.values.Has("container") || id == profile.Host:
		return id, nil
	case !validID(id):
		return "", problemf(http.StatusBadRequest, "parameter container is %s: write the id of a container, or %s", quote(id), profile.Host)
	case c.sources.Containers == nil:
		return "", missing("containers")
	}
	found, ok := c.sources.Containers.Container(id)
	if !ok {
		return "", problemf(http.StatusNotFound, "container %s is not known", quote(id))
	}
	return found.ID, nil
}

// ofSelf is the handler of a route that needs the sensor's own profiles.
func ofSelf(handle func(*call, *profile.Self) error) func(*call) error {
	return func(c *call) error {
		if c.sources.Self == nil {
			return missing("profiles")
		}
		return handle(c, c.sources.Self)
	}
}

// ProfilesAnswer is what GET /profile answers: the states of the records.
type ProfilesAnswer struct {
	CPU          profile.State `json:"cpu"`
	Heap         profile.State `json:"heap"`
	SupportsCPU  bool          `json:"supports_cpu"`
	SupportsHeap bool          `json:"supports_heap"`
}

// profiles answers GET /profile.
func (c *call) profiles(self *profile.Self) error {
	heap, cpu := self.Status()
	return c.answer(ProfilesAnswer{cpu, heap, true, true})
}

// switchHeap answers POST /profile/heap.
func (c *call) switchHeap(self *profile.Self) error { return c.switchRecord(self, self.SwitchHeap) }

// switchCPU answers POST /profile/cpu.
func (c *call) switchCPU(self *profile.Self) error { return c.switchRecord(self, self.SwitchCPU) }

// switchRecord switches a recorder to the word in the body and answers with the
// states after it.
func (c *call) switchRecord(self *profile.Self, to func(word string) error) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	word := strings.TrimSpace(string(body))
	c.change = "switch to " + quote(word)
	if err := to(word); err != nil {
		return recordProblem(err)
	}
	return c.profiles(self)
}

// recordProblem gives the errors of profiles their status.
func recordProblem(err error) error {
	switch {
	case errors.Is(err, profile.ErrWord), errors.Is(err, profile.ErrSyscall):
		return problemf(http.StatusBadRequest, "%v", err)
	case errors.Is(err, profile.ErrState), errors.Is(err, profile.ErrBusy):
		return problemf(http.StatusConflict, "%v", err)
	case errors.Is(err, profile.ErrName), errors.Is(err, profile.ErrGone):
		return problemf(http.StatusNotFound, "%v", err)
	case errors.Is(err, errors.ErrUnsupported):
		return problemf(http.StatusNotImplemented, "%v", err)
	}
	return err
}

// heap answers GET /profile/heap.
func (c *call) heap(self *profile.Self) error { return c.profile("heap", self.Heap) }

// cpu answers GET /profile/cpu.
func (c *call) cpu(self *profile.Self) error { return c.profile("cpu", self.CPU) }

// recordCPU answers GET /debug/pprof/profile.
func (c *call) recordCPU(self *profile.Self) error {
	d, err := c.seconds(defaultProfileSeconds)
	if err != nil {
		return err
	}
	return c.file("cpu.pb.gz", func() ([]byte, error) { return self.RecordCPU(c.r.Context(), d) })
}

// trace answers GET /debug/pprof/trace. It is written as it is made.
func (c *call) trace(self *profile.Self) error {
	d, err := c.seconds(defaultTraceSeconds)
	if err != nil {
		return err
	}
	return recordProblem(self.Trace(c.r.Context(), &fileStream{c, "sonde.trace"}, d))
}

// fileStream is a file that is written while it is made.
type fileStream struct {
	*call
	name string
}

// Write writes the headers before the first byte: until then it can be an error.
func (s *fileStream) Write(p []byte) (int, error) {
	if !s.began {
		s.began = true
		s.fileHeader(s.name)
	}
	return s.w.Write(p)
}

// runtimeProfiles answers GET /debug/pprof/.
func (c *call) runtimeProfiles(self *profile.Self) error {
	return c.answer(map[string][]string{"profiles": append(self.Names(), "profile", "trace")})
}

// runtimeProfile answers GET /debug/pprof/{name}.
func (c *call) runtimeProfile(self *profile.Self) error {
	var debug, gc int
	if err := c.number("debug", &debug, 0, 2); err != nil {
		return err
	}
	if err := c.number("gc", &gc, 0, 1); err != nil {
		return err
	}
	name := c.r.PathValue("name")
	suffix := ".pb.gz"
	if debug > 0 {
		suffix = ".txt"
	}
	return c.file(name+suffix, func() ([]byte, error) {
		var out bytes.Buffer
		err := self.Lookup(&out, name, debug, gc == 1)
		return out.Bytes(), err
	})
}

// seconds reads how long to record.
func (c *call) seconds(otherwise int) (time.Duration, error) {
	n := otherwise
	err := c.number("seconds", &n, 1, maxSeconds)
	return time.Duration(n) * time.Second, err
}

// profile answers with a profile and keeps it to be looked at.
func (c *call) profile(name string, take func() ([]byte, error)) error {
	return c.file(name+".pb.gz", func() ([]byte, error) {
		raw, err := take()
		if err == nil && c.sources.Pages != nil {
			c.sources.Pages.Keep(name, raw)
		}
		return raw, err
	})
}

// file answers with bytes that a program reads, under a name to save them by.
func (c *call) file(name string, take func() ([]byte, error)) error {
	content, err := take()
	if err != nil {
		return recordProblem(err)
	}
	c.fileHeader(name)
	c.w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	c.began = true
	_, err = c.w.Write(content)
	return err
}

func (c *call) fileHeader(name string) {
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if strings.HasSuffix(name, ".txt") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	h.Set("Content-Disposition", "attachment; filename="+strconv.Quote(name))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

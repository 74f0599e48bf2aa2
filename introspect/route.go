package introspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/stream"
)

// route is one path with its verbs.
type route struct {
	path  string // as http.ServeMux reads it
	verbs map[string]verb
	heavy bool // its answers may be large: few at once
}

// verb is what a method does on a path.
type verb struct {
	about    string
	params   []string // of those in parameters
	anyQuery bool     // parameters are somebody else's
	write    bool     // changes the sensor: must be allowed, and is put on record
	records  bool     // takes as long as the request says: maxSeconds more than others
	endless  bool     // goes on until one side ends it
	maxBody  int64    // bytes; 0 refuses any
	handle   func(*call) error
}

// routes is every route, in the order in which they are listed.
func routes() []route {
	network := []string{"container", "normalize", "detail", "closed", "limit", "offset"}
	return append([]route{
		{path: "/{$}", verbs: map[string]verb{
			"GET": {about: "This list.", handle: (*call).list},
		}},
		{path: "/ready", verbs: map[string]verb{
			"GET": {about: "Whether the sensor does its work: 200, or 503 with the reasons why not.", handle: (*call).ready},
		}},
		{path: "/state/network/connection", heavy: true, verbs: map[string]verb{
			"GET": {about: "Open connections, by container.", params: network, handle: (*call).connections},
		}},
		{path: "/state/network/endpoint", heavy: true, verbs: map[string]verb{
			"GET": {about: "Listening sockets, by container.", params: network, handle: (*call).endpoints},
		}},
		{path: "/state/containers", heavy: true, verbs: map[string]verb{
			"GET": {about: "Containers.", params: []string{"limit", "offset"}, handle: (*call).containers},
		}},
		{path: "/state/containers/{id...}", verbs: map[string]verb{
			"GET": {about: "One container, by its id or the first twelve characters of it.", handle: (*call).container},
		}},
		{path: "/state/processes", heavy: true, verbs: map[string]verb{
			"GET": {about: "Live processes with their ancestors.", params: []string{"container", "limit", "offset"}, handle: (*call).processes},
		}},
		{path: "/state/processes/{pid}", verbs: map[string]verb{
			"GET": {about: "One process, also for some minutes after its end.", handle: (*call).process},
		}},
		{path: "/state/runtime-config", verbs: map[string]verb{
			"GET": {about: "The configuration in force, with the origin of every value.", handle: (*call).runtimeConfig},
			"PUT": {about: "Changes what may change while the sensor runs: YAML or JSON with the keys of the configuration file. " +
				"It is not kept over a restart, and the next change of the file wins.",
				write: true, maxBody: maxConfig, handle: (*call).putRuntimeConfig},
		}},
		{path: "/state/pipeline", verbs: map[string]verb{
			"GET": {about: "The way of the events: probes, rings, ledgers, sessions, tables.", handle: (*call).pipeline},
		}},
		{path: "/state/sensor", verbs: map[string]verb{
			"GET": {about: "The sensor itself: version, addresses, memory, and what its programs and maps cost.", handle: (*call).sensor},
		}},
		{path: "/trace/sessions", verbs: map[string]verb{
			"GET": {about: "The sessions: which events are wanted, where they go, and what has become of them.", handle: (*call).sessions},
			"POST": {about: "Begins the session in the body: JSON as gVisor's runtime monitoring has it, wrapped in trace_session or not. " +
				"It is not kept over a restart.", write: true, maxBody: stream.MaxSessionBytes, handle: (*call).createSession},
		}},
		{path: "/trace/sessions/{name}", verbs: map[string]verb{
			"DELETE": {about: "Ends a session when its sinks have taken what waits for them, within 5 s, and answers its last ledger.",
				write: true, handle: (*call).deleteSession},
		}},
		{path: "/trace/events", verbs: map[string]verb{
			"GET": {about: "Events as they happen, one JSON line each, as the sink `jsonl` writes them, until the client leaves. The stream is a session " +
				"(header X-Session) with a queue of its own; what a slow client misses is told where it is missing.",
				params: eventParams, endless: true, handle: (*call).events},
		}},
		{path: "/trace/metadata", verbs: map[string]verb{
			"GET": {about: "The points, fields and sinks that a session may name.", handle: (*call).traceMetadata},
		}},
		{path: "/loglevel", verbs: map[string]verb{
			"GET": {about: "The log levels.", handle: (*call).logLevel},
			"POST": {about: "Sets the log level to that in the body: `debug`, or `info,bpf=debug`. An empty body reads it.",
				write: true, maxBody: maxLevel, handle: (*call).setLogLevel},
		}},
	}, append(profileRoutes(), pageRoutes()...)...)
}

// Limits of a request.
const (
	requestTimeout = 30 * time.Second
	maxConfig      = 1 << 20
	maxLevel       = 4 << 10
)

// call is one request under way.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	sources Sources
	version string
	values  url.Values // the query
	change  string     // what a write verb has done, for the record
	began   bool       // something has been written: there can be no other status
}

// problem is an error with the status that it is answered with.
type problem struct {
	status int
	text   string
	faults []string // all of them, where there may be several
}

func (p *problem) Error() string { return p.text }

func problemf(status int, format string, args ...any) *problem {
	return &problem{status: status, text: fmt.Sprintf(format, args...)}
}

// missing is the answer of a route whose source does not exist.
func missing(subject string) *problem {
	return problemf(http.StatusServiceUnavailable, "%s: this sensor does not keep track of that", subject)
}

// handler serves every route for one listener.
func (s *Server) handler(sources Sources, door door) http.Handler {
	mux := http.NewServeMux()
	for _, route := range s.routes {
		mux.HandleFunc(route.path, func(w http.ResponseWriter, r *http.Request) { s.serveRoute(w, r, route, sources, door) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, problemf(http.StatusNotFound, "no such route; GET / lists them"))
	})
	return door.guard(mux)
}

func (s *Server) serveRoute(w http.ResponseWriter, r *http.Request, route route, sources Sources, door door) {
	method := r.Method
	if method == http.MethodHead { // net/http leaves the body out
		method = http.MethodGet
	}
	verb, ok := route.verbs[method]
	if !ok {
		w.Header().Set("Allow", route.allow())
		writeProblem(w, problemf(http.StatusMethodNotAllowed, "method %s is not allowed here; allowed: %s", r.Method, route.allow()))
		return
	}
	if route.heavy {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			writeProblem(w, problemf(http.StatusServiceUnavailable, "%d requests of this kind are being answered already", cap(s.slots)))
			return
		}
	}
	ctx, deadline := r.Context(), time.Time{}
	if !verb.endless {
		timeout := requestTimeout
		if verb.records {
			timeout += maxSeconds * time.Second
		}
		deadline = time.Now().Add(timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	limit(w, deadline)
	r.Body = http.MaxBytesReader(w, r.Body, verb.maxBody)
	c := &call{w: w, r: r.WithContext(ctx), sources: sources, version: s.opts.Version}
	err := c.do(verb, door)
	if verb.write {
		s.audit(c, door, err)
	}
	c.end(err)
}

// limit ends a request whose client neither reads nor writes; the zero time never does.
func limit(w http.ResponseWriter, deadline time.Time) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(deadline) // a recorder in a test has none
	_ = control.SetWriteDeadline(deadline)
}

// do checks what all verbs have in common and runs one.
func (c *call) do(v verb, door door) error {
	if !v.anyQuery {
		if err := c.checkParameters(v.params); err != nil {
			return err
		}
	}
	if v.write && !door.write {
		return problemf(http.StatusForbidden, "writing is switched off on this listener (--introspect.enable-write)")
	}
	return v.handle(c)
}

// end answers with an error where there is one. If the answer has begun, all that
// is left is to break it off: half an answer must not look like a whole one.
func (c *call) end(err error) {
	if err == nil {
		return
	}
	if c.began {
		panic(http.ErrAbortHandler)
	}
	var p *problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &large):
		p = problemf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", large.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		p = problemf(http.StatusServiceUnavailable, "it takes longer than %v", requestTimeout)
	default:
		p = problemf(http.StatusInternalServerError, "%v", err)
	}
	writeProblem(c.w, p)
}

// allow lists the methods of a route.
func (r *route) allow() string {
	methods := slices.Collect(maps.Keys(r.verbs))
	if _, ok := r.verbs[http.MethodGet]; ok {
		methods = append(methods, http.MethodHead)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// shownPath is the path as people write it.
func (r *route) shownPath() string {
	return strings.Replace(strings.TrimSuffix(r.path, "{$}"), "...", "", 1)
}

func header(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// writeProblem answers with an error.
func writeProblem(w http.ResponseWriter, p *problem) {
	writeJSON(w, p.status, struct {
		Error  string   `json:"error"`
		Faults []string `json:"faults,omitempty"`
	}{p.text, p.faults})
}

// writeJSON answers with a value that is small.
func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	header(w)
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client has gone: nobody to tell
}

// answer is writeJSON for handlers.
func (c *call) answer(v any) error {
	writeJSON(c.w, http.StatusOK, v)
	return nil
}

// list answers GET /.
func (c *call) list() error {
	type listed struct {
		Path       string            `json:"path"`
		Methods    map[string]string `json:"methods"`
		Parameters []string          `json:"parameters,omitempty"`
	}
	var all []listed
	for _, r := range routes() {
		l := listed{Path: r.shownPath(), Methods: map[string]string{}}
		for method, v := range r.verbs {
			l.Methods[method] = v.about
			l.Parameters = append(l.Parameters, v.params...)
		}
		all = append(all, l)
	}
	return c.answer(struct {
		Name    string   `json:"name"`
		Version string   `json:"version"`
		Routes  []listed `json:"routes"`
	}{"sonde", c.version, all})
}

package profile

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/pprof/driver"
	"github.com/google/pprof/profile"
)

// Bounds of the profiles that are kept to be looked at. The oldest goes first.
const (
	MaxKept      = 8
	MaxKeptBytes = 16 << 20 // gzipped, all together
)

// ErrGone is the error of a profile or a view that is not there (any more).
var ErrGone = errors.New("there is no such profile or view of one; the list is at /profile/ui/")

// Kept is a profile that can be looked at.
type Kept struct {
	ID    int
	Name  string
	Taken time.Time
	Bytes int
}

// Pages shows profiles to a browser: as a flame graph, as a list of functions, with the
// callers of one. It uses github.com/google/pprof, of which it allows what reads the
// profile and nothing else. Its methods may be called concurrently.
type Pages struct {
	mu   sync.Mutex
	last int
	kept []keptProfile

	// One profile is unpacked at a time: the one that was looked at last.
	shown    int
	handlers map[string]http.Handler
}

type keptProfile struct {
	Kept
	raw []byte
}

// NewPages returns Pages without a profile.
func NewPages() *Pages { return &Pages{} }

// Keep keeps a profile and returns its number. A profile that is too large is not kept,
// and 0 is returned.
func (p *Pages) Keep(name string, raw []byte) int {
	if len(raw) > MaxKeptBytes {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	p.kept = append(p.kept, keptProfile{Kept{p.last, name, time.Now(), len(raw)}, raw})
	for total := p.bytes(); len(p.kept) > MaxKept || total > MaxKeptBytes; p.kept = slices.Delete(p.kept, 0, 1) {
		total -= p.kept[0].Bytes
	}
	return p.last
}

func (p *Pages) bytes() (total int) {
	for _, k := range p.kept {
		total += k.Bytes
	}
	return total
}

// List returns the profiles that are kept, the newest first.
func (p *Pages) List() []Kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Kept
	for _, k := range slices.Backward(p.kept) {
		all = append(all, k.Kept)
	}
	return all
}

// Views are the ways to look at a profile, by the names that pprof has for them. Its
// others start a program (graph), read source files (source, disasm) or write settings.
var Views = []string{"flamegraph", "top", "peek"}

// View is one page, or with a status other than 200 why there is none.
type View struct {
	Status int
	Body   []byte
	header http.Header // pprof's own, which nobody needs
}

// Header implements http.ResponseWriter.
func (v *View) Header() http.Header { return v.header }

// WriteHeader implements http.ResponseWriter.
func (v *View) WriteHeader(status int) { v.Status = status }

// Write implements http.ResponseWriter.
func (v *View) Write(b []byte) (int, error) {
	v.Body = append(v.Body, b...)
	return len(b), nil
}

// View makes a page of a profile. The query is pprof's own.
func (p *Pages) View(id int, view string, r *http.Request) (*View, error) {
	if !slices.Contains(Views, view) {
		return nil, ErrGone
	}
	handlers, err := p.open(id)
	if err != nil {
		return nil, err
	}
	v := &View{Status: http.StatusOK, header: http.Header{}}
	handlers["/"+view].ServeHTTP(v, r)
	v.Body = bytes.Replace(v.Body, []byte("</head>"), hidden, 1)
	return v, nil
}

// hidden hides the menu entries of what there is not.
var hidden = []byte("<style>#graphbtn, #list, #disasm, #config, #download { display: none }</style></head>")

// open unpacks a profile.
func (p *Pages) open(id int) (map[string]http.Handler, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id == p.shown && p.handlers != nil {
		return p.handlers, nil
	}
	i := slices.IndexFunc(p.kept, func(k keptProfile) bool { return k.ID == id })
	if i < 0 {
		return nil, ErrGone
	}
	parsed, err := profile.ParseData(p.kept[i].raw)
	if err != nil {
		return nil, fmt.Errorf("read profile %d: %w", id, err)
	}
	handlers, err := views(parsed, p.kept[i].Name)
	if err != nil {
		return nil, fmt.Errorf("show profile %d: %w", id, err)
	}
	p.shown, p.handlers = id, handlers
	return handlers, nil
}

// driverMu guards the driver, which keeps its settings in variables of its own.
var driverMu sync.Mutex

// views has pprof's driver make its pages, and takes them away from it before it
// would serve them.
func views(p *profile.Profile, name string) (handlers map[string]http.Handler, err error) {
	driverMu.Lock()
	defer driverMu.Unlock()
	byProcess(p)
	err = driver.PProf(&driver.Options{
		Flagset: flags{name}, Fetch: fetched{p}, Obj: nothing{}, Sym: nothing{}, UI: nothing{},
		HTTPServer: func(a *driver.HTTPServerArgs) error {
			handlers = a.Handlers
			return nil
		},
	})
	if err == nil && handlers == nil {
		err = errors.New("pprof made no pages")
	}
	return handlers, err
}

// byProcess puts the name of the process below its stacks, so that a flame graph of the
// node begins with who it is about.
func byProcess(p *profile.Profile) {
	roots := map[string]*profile.Location{}
	for _, s := range p.Sample {
		for _, name := range s.Label["process"] {
			root, ok := roots[name]
			if !ok {
				f := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name}
				root = &profile.Location{ID: uint64(len(p.Location) + 1), Line: []profile.Line{{Function: f}}}
				p.Function, p.Location, roots[name] = append(p.Function, f), append(p.Location, root), root
			}
			s.Location = append(slices.Clip(s.Location), root) // samples lie side by side in one array
		}
	}
}

// flags is the command line that the driver believes to have been given.
type flags struct{ source string }

func (flags) Bool(name string, preset bool, _ string) *bool {
	value := preset || name == "no_browser"
	return &value
}

func (flags) String(name, preset, _ string) *string {
	if name == "http" {
		preset = "localhost:1" // asks for pages; nothing listens
	}
	return &preset
}

func (flags) Int(_ string, preset int, _ string) *int             { return &preset }
func (flags) Float64(_ string, preset float64, _ string) *float64 { return &preset }
func (flags) StringList(string, string, string) *[]*string        { return &[]*string{} }
func (flags) ExtraUsage() string                                  { return "" }
func (flags) AddExtraUsage(string)                                {}
func (f flags) Parse(func()) []string                             { return []string{f.source} }

// fetched is a profile that is there already.
type fetched struct{ *profile.Profile }

func (f fetched) Fetch(string, time.Duration, time.Duration) (*profile.Profile, string, error) {
	return f.Profile, "", nil
}

// nothing opens no file, looks no name up and says nothing.
type nothing struct{}

var errNothing = errors.New("not here")

func (nothing) Open(string, uint64, uint64, uint64, string) (driver.ObjFile, error) {
	return nil, errNothing
}
func (nothing) Disasm(string, uint64, uint64, bool) ([]driver.Inst, error) { return nil, errNothing }
func (nothing) Symbolize(string, driver.MappingSources, *profile.Profile) error {
	return nil
}
func (nothing) ReadLine(string) (string, error)     { return "", errNothing }
func (nothing) Print(...any)                        {}
func (nothing) PrintErr(...any)                     {}
func (nothing) IsTerminal() bool                    { return false }
func (nothing) WantBrowser() bool                   { return false }
func (nothing) SetAutoComplete(func(string) string) {}

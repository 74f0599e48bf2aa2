// Package lawtest keeps the laws of the source tree that a compiler does not:
// who may import whom, and which conveniences nobody may use. It reads the
// files as text, so it takes a fraction of a second and runs with every test.
//
// The laws themselves are the tables in this file; CONTRIBUTING.md says them in
// words. A package that no table knows breaks the law too: whoever adds one
// decides where it belongs.
package lawtest

import "strings"

const module = "github.com/sonde-ebpf/sonde/"

// layers orders the packages: a package imports only from layers with a smaller
// number, never from its own. A path covers the packages below it, which may
// import each other.
var layers = map[string]int{
	"internal/event":      0,
	"internal/logging":    0,
	"internal/outbound":   0,
	"internal/unixsocket": 0,
	"api":                 0,
	"bpf":                 1,
	"internal/procfs":     1,
	"internal/config":     1,
	"internal/digest":     1,
	"internal/gvisor":     1,
	"internal/metric":     1,
	"internal/blackbox":   2,
	"internal/bundle":     2,
	"internal/container":  2,
	"internal/profile":    2,
	"internal/stream":     2,
	"internal/rules":      2,
	"internal/shed":       2,
	"internal/sink":       2,
	"internal/state":      2,
	"exporter":            3,
	"collectors":          3,
	"introspect":          3,
	"internal/tetragon":   3,
	"alerts":              4,
	"dashboards":          5,
	"cmd":                 6,
}

// harness is what only tests and measurements use. It may import and do what it
// likes, and no other package may import it.
var harness = []string{"bench", "internal/e2e", "internal/lawtest", "internal/promtest", "internal/testenv", "internal/tools", "internal/vmtest"}

// imports names the packages (and what is below them) that only a few may import.
var imports = []struct {
	path    string
	blank   bool // only the blank import is forbidden
	allowed []string
	why     string
}{
	{path: "github.com/cilium/ebpf", allowed: []string{"bpf"}, why: "all kernel contact is in bpf"},
	{path: "github.com/prometheus/client_golang", allowed: []string{"exporter", "collectors", "internal/metric"},
		why: "what is measured does not know Prometheus"},
	{path: "os/exec", allowed: []string{"internal/bundle"}, why: "the sensor starts no programs; only the support bundle asks some"},
	{path: "flag", allowed: []string{"cmd"}, why: "only cmd reads flags"},
	{path: "github.com/alecthomas/kingpin", allowed: []string{"cmd"}, why: "only cmd reads flags"},
	{path: "github.com/prometheus/exporter-toolkit/web/kingpinflag", allowed: []string{"cmd"}, why: "only cmd reads flags"},
	{path: "net/http/pprof", blank: true, why: "it serves profiles on the default mux"},
	{path: "github.com/stretchr/testify", why: "tests use the standard library and go-cmp"},
}

// names lists functions and variables that only a few may use.
var names = []struct {
	path    string // of the package
	names   string // space-separated
	allowed []string
	why     string
}{
	{"os", "Getenv LookupEnv Environ ExpandEnv", []string{"cmd"}, "only cmd reads the environment"},
	{"os", "Exit", []string{"cmd"}, "library code returns errors"},
	{"log", "Fatal Fatalf Fatalln Panic Panicf Panicln Print Printf Println", nil, "logs go through an injected slog.Logger"},
	{"log/slog", "Debug Info Warn Error Default SetDefault", nil, "the logger is injected"},
	{"fmt", "Print Printf Println", nil, "output goes to a writer that was handed in"},
	{"net/http", "Handle HandleFunc DefaultServeMux", nil, "the default mux belongs to everybody"},
	{"github.com/prometheus/client_golang/prometheus", "MustRegister Register DefaultRegisterer DefaultGatherer", nil,
		"the default registry belongs to everybody"},
}

// under reports whether the import path or directory is one of dirs or below it.
func under(path string, dirs ...string) bool {
	for _, dir := range dirs {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// layerOf returns the layer of a directory and the table entry that covers it.
func layerOf(dir string) (entry string, layer int, ok bool) {
	for entry, layer := range layers {
		if under(dir, entry) {
			return entry, layer, true
		}
	}
	return "", 0, false
}

// standard reports whether an import path belongs to the standard library.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

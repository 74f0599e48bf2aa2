package introspect

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-ebpf/sonde/internal/state"
)

// parameters is every query parameter, with what it means.
var parameters = []struct{ name, values, about string }{
	{"container", "an id, its first twelve characters, or `host`", "Only what belongs to that container. One that is not known is 404; not for events, it may be yet to come."},
	{"normalize", "`true` (default), `false`", "Shows what connections have in common: the port of the side that serves, and of the peer what " +
		"the runtime configuration says; loopback and ignored networks are left out. `false` shows every single one with its full address."},
	{"detail", "`true`, `false` (default)", "Shows every single one with all that is known of it."},
	{"closed", "`true`, `false` (default)", "Adds what has ended a short time ago and is still held, with `\"active\":false`."},
	{"limit", "1 to 1000000", "At most so many entries. The header X-Total-Count says how many there are."},
	{"offset", "0 to 1000000000", "Leaves out so many entries first."},
	{"seconds", "1 to 300", "How long to record."},
	{"hz", "1 to 999", "How often each processor is looked at per second, 99 if it is not said."},
	{"point", "names of points, such as `process/exec,network/connect`", "Only events of those points."},
	{"uid", "numbers, with commas between them", "Only events of processes with one of those real user ids."},
	{"tree", "numbers, with commas between them", "Only events of processes with one of those pids, and of what they have started, as far as the processes between are known."},
	{"binary", "beginnings of paths, with commas between them", "Only events of processes whose executable begins with one of them."},
	{"comm", "names, with commas between them", "Only events of threads with one of those names."},
	{"path", "beginnings of paths, with commas between them", "Only events about files whose path begins with one of them: what is executed, mapped, loaded or named in a call."},
	{"argument", "a text, as it is; may be given several times", "Only executions with an argument that is one of them, whole."},
	{"rule", "names of detection rules, with commas between them, or `*`", "Only events that fit one of those rules, or any."},
	{"pid", "1 to 4194303", "Only that process; of events also several, with commas between them. The number is the machine's, not that of a container."},
	{"syscall", "a name, such as `read`", "Only that system call."},
	{"over", "a duration up to `300s`", "Calls that take at least that long, `10ms` if it is not said."},
	{"debug", "`0` (default), `1`, `2`", "0 is protobuf for `go tool pprof`, 1 and 2 are texts."},
	{"gc", "`0` (default), `1`", "1 collects garbage first."},
}

const (
	maxLimit  = 1_000_000
	maxOffset = 1_000_000_000
	// maxSeconds is the longest recording, of a profile or a trace.
	maxSeconds = 300
)

// anyText is the parameter whose values may have commas in them, so that several are
// several parameters.
const anyText = "argument"

// checkParameters refuses what cannot be read, is not known, or is given twice.
func (c *call) checkParameters(known []string) error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return problemf(http.StatusBadRequest, "the query string cannot be read: %v", err)
	}
	c.values = values
	for name, all := range values {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return problemf(http.StatusBadRequest, "parameter %s is not known here: there are none", quote(name))
		case !slices.Contains(known, name):
			return problemf(http.StatusBadRequest, "parameter %s is not known here; known: %s", quote(name), strings.Join(known, ", "))
		case len(all) > 1 && name != anyText:
			return problemf(http.StatusBadRequest, "parameter %s is given %d times", name, len(all))
		}
	}
	return nil
}

// query reads the parameters that choose rows.
func (c *call) query() (q state.Query, err error) {
	normalize := true
	q.Container = c.values.Get("container")
	if c.values.Has("container") && !validID(q.Container) {
		return q, problemf(http.StatusBadRequest, "parameter container is %s: write the id of a container, or %s", quote(q.Container), state.Host)
	}
	for _, p := range []struct {
		name string
		dst  *bool
	}{{"normalize", &normalize}, {"detail", &q.Detail}, {"closed", &q.Ended}} {
		if err := c.boolean(p.name, p.dst); err != nil {
			return q, err
		}
	}
	if err := c.number("limit", &q.Limit, 1, maxLimit); err != nil {
		return q, err
	}
	q.Raw = !normalize
	return q, c.number("offset", &q.Offset, 0, maxOffset)
}

func (c *call) boolean(name string, dst *bool) error {
	switch text := c.values.Get(name); {
	case !c.values.Has(name):
		return nil
	case text == "true" || text == "false":
		*dst = text == "true"
		return nil
	default:
		return problemf(http.StatusBadRequest, "parameter %s is %s: write true or false", name, quote(text))
	}
}

func (c *call) number(name string, dst *int, low, high int) error {
	text := c.values.Get(name)
	if !c.values.Has(name) {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return problemf(http.StatusBadRequest, "parameter %s is %s: write a number from %d to %d", name, quote(text), low, high)
	}
	*dst = n
	return nil
}

// maxID is the longest id that any runtime allows: containerd's namespace and name,
// of 76 characters each, are shorter.
const maxID = 256

// validID reports whether a text can be the id of a container: drawn digits, or
// containerd's namespace/name.
func validID(id string) bool {
	for i, b := range []byte(id) {
		letter := b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
		if !letter && (i == 0 || b != '_' && b != '.' && b != '-' && b != '/') {
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// quote shows a text that somebody sent, cut short.
func quote(text string) string {
	const longest = 80
	if len(text) > longest {
		return strconv.QuoteToASCII(text[:longest]) + "…"
	}
	return strconv.QuoteToASCII(text)
}

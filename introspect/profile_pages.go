package introspect

import (
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-ebpf/sonde/internal/profile"
)

// maxForm is the largest form that takes a profile, in bytes.
const maxForm = 4 << 10

// pageRoutes show profiles to a browser.
func pageRoutes() []route {
	return []route{
		{path: "/profile/ui/{$}", verbs: map[string]verb{
			"GET": {about: "A page for browsers: the last profiles, to be looked at as flame graph, top and peek.", handle: ofPages((*call).pageList)},
			"POST": {about: "Takes a profile, keeps it, and leads to its flame graph: a form with `kind` and the parameters of its route.",
				write: true, records: true, maxBody: maxForm, handle: ofPages((*call).pageTake)},
		}},
		{path: "/profile/ui/{id}/{view}", heavy: true, verbs: map[string]verb{
			"GET": {about: "A profile as `flamegraph`, `top` or `peek`, with the parameters that pprof's pages have.", anyQuery: true,
				handle: ofPages((*call).pageView)},
		}},
	}
}

// ofPages is the handler of a route that shows profiles.
func ofPages(handle func(*call, *profile.Pages) error) func(*call) error {
	return func(c *call) error {
		if c.sources.Pages == nil {
			return missing("profiles to look at")
		}
		return handle(c, c.sources.Pages)
	}
}

// takers are the profiles that the page can take, with the parameters of each.
func (c *call) takers() map[string]func() ([]byte, error) {
	node := func(kind profile.Kind) func() ([]byte, error) {
		return func() ([]byte, error) {
			if c.sources.Node == nil {
				return nil, missing("profiles of the node")
			}
			request, err := c.profileRequest(kind)
			if err != nil {
				return nil, err
			}
			return c.sources.Node.Record(c.r.Context(), request)
		}
	}
	takers := map[string]func() ([]byte, error){"node": node(profile.CPU), "drops": node(profile.Drops), "slow": node(profile.Slow)}
	if self := c.sources.Self; self != nil {
		takers["heap"] = self.Heap
		takers["cpu"] = func() ([]byte, error) {
			d, err := c.seconds(defaultNodeSeconds)
			if err != nil {
				return nil, err
			}
			return self.RecordCPU(c.r.Context(), d)
		}
	}
	return takers
}

// pageTake answers POST /profile/ui/.
func (c *call) pageTake(pages *profile.Pages) error {
	form, err := c.body()
	if err != nil {
		return err
	}
	values, err := url.ParseQuery(string(form))
	if err != nil {
		return problemf(http.StatusBadRequest, "the form cannot be read: %v", err)
	}
	for name := range values { // a browser sends empty fields, too
		if values.Get(name) == "" {
			values.Del(name)
		}
	}
	c.values = values
	kind := values.Get("kind")
	take, ok := c.takers()[kind]
	if !ok {
		return problemf(http.StatusBadRequest, "kind is %s: write node, drops, slow, heap or cpu", quote(kind))
	}
	c.change = "take profile " + kind
	raw, err := take()
	if err != nil {
		return recordProblem(err)
	}
	id := pages.Keep(kind, raw)
	if id == 0 {
		return problemf(http.StatusInsufficientStorage, "the profile is larger than %d bytes: get it at /profile/%s", profile.MaxKeptBytes, kind)
	}
	c.w.Header().Set("Location", strconv.Itoa(id)+"/flamegraph")
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// pageView answers GET /profile/ui/{id}/{view}.
func (c *call) pageView(pages *profile.Pages) error {
	id, err := strconv.Atoi(c.r.PathValue("id"))
	if err != nil {
		return problemf(http.StatusNotFound, "%v", profile.ErrGone)
	}
	view, err := pages.View(id, c.r.PathValue("view"), c.r)
	if err != nil {
		return recordProblem(err)
	}
	if view.Status != http.StatusOK {
		return problemf(view.Status, "%s", strings.TrimSpace(string(view.Body)))
	}
	return c.page(view.Body)
}

// pageList answers GET /profile/ui/.
func (c *call) pageList(pages *profile.Pages) error {
	var page strings.Builder
	kinds := []string{"node", "drops", "slow", "heap", "cpu"}
	known := c.takers()
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return known[kind] == nil })
	if err := listTemplate.Execute(&page, struct {
		Kinds []string
		Kept  []profile.Kept
		Views []string
	}{kinds, pages.List(), profile.Views}); err != nil {
		return err
	}
	return c.page([]byte(page.String()))
}

// page answers with a page for browsers. It may run what it brings along and load
// nothing: names of functions in it are what strangers chose.
func (c *call) page(content []byte) error {
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	c.began = true
	_, err := c.w.Write(content)
	return err
}

var listTemplate = template.Must(template.New("profiles").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Sonde: profiles</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ccc; padding: .3em .8em .3em 0; text-align: left }
input { width: 7em }
label { margin-right: 1em }
</style>
</head>
<body>
<h1>Profiles</h1>
<form method="post">
<label>Take <select name="kind">{{range .Kinds}}<option>{{.}}</option>{{end}}</select></label>
<label>for <input name="seconds" type="number" min="1" max="300" value="10"> seconds</label>
<label>container <input name="container"></label>
<label>pid <input name="pid"></label>
<button>Take</button>
</form>
{{if .Kept}}<table>
<tr><th>Profile</th><th>Taken</th><th>Bytes</th><th>Look at it as</th></tr>
{{$views := .Views}}{{range .Kept}}{{$id := .ID}}<tr><td>{{.Name}}</td><td>{{.Taken.UTC.Format "2006-01-02 15:04:05Z"}}</td><td>{{.Bytes}}</td><td>
{{- range $views}}<a href="{{$id}}/{{.}}">{{.}}</a> {{end}}</td></tr>
{{end}}</table>{{else}}<p>None has been taken yet. Those that are fetched from <code>/profile/…</code> appear here, too.</p>{{end}}
</body>
</html>
`))

package collectors_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// TestDocs writes docs/metrics.md from the catalogue, and fails when what is there
// differs, or when a file declares families that no section shows.
func TestDocs(t *testing.T) {
	page := newReference(t)
	tmpl, err := template.New("metrics.md.tmpl").Funcs(page.functions()).ParseFiles("../docs/metrics.md.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, nil); err != nil {
		t.Fatal(err)
	}
	for file, families := range page.byFile {
		t.Errorf("docs/metrics.md.tmpl has no place for %s, which declares %s", file, families[0].Name)
	}
	compareGolden(t, "../docs/metrics.md", b.Bytes())
}

// catalogue returns every family the sensor can show.
func catalogue() []metric.Family {
	return slices.Concat(collectors.Declared(), exporter.Declared())
}

// reference is the page under construction: the families that no section has shown
// yet, by the file that declares them.
type reference struct {
	byFile map[string][]metric.Family
}

func newReference(t *testing.T) *reference {
	t.Helper()
	files := declaringFiles(t, "*.go", "")
	maps.Copy(files, declaringFiles(t, "../exporter/*.go", "exporter/"))
	r := &reference{byFile: map[string][]metric.Family{}}
	for _, f := range catalogue() {
		file := files[f.Name]
		r.byFile[file] = append(r.byFile[file], f)
	}
	return r
}

// declaringFiles reads the sources and returns, by family, where it is declared.
func declaringFiles(t *testing.T, pattern, prefix string) map[string]string {
	t.Helper()
	sources, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, source := range sources {
		syntax, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if name, ok := declaration(n); ok {
				files[metric.Prefix+name] = prefix + filepath.Base(source)
			}
			return true
		})
	}
	return files
}

// declaration recognises declared.Counter("name", …) and its like.
func declaration(n ast.Node) (name string, ok bool) {
	call, isCall := n.(*ast.CallExpr)
	if !isCall || len(call.Args) == 0 {
		return "", false
	}
	method, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod {
		return "", false
	}
	literal, isLiteral := call.Args[0].(*ast.BasicLit)
	if set, isName := method.X.(*ast.Ident); !isName || set.Name != "declared" || !isLiteral {
		return "", false
	}
	name, err := strconv.Unquote(literal.Value)
	return name, err == nil
}

func (r *reference) functions() template.FuncMap {
	return template.FuncMap{
		"families":  r.families,
		"peers":     peers,
		"schema":    func() int { return metric.Schema },
		"perOctave": func() int { return 1 << metric.Schema },
		"factor":    func() float64 { return math.Exp2(math.Exp2(-metric.Schema)) },
	}
}

// families writes the table of the families that the files declare.
func (r *reference) families(files ...string) (string, error) {
	var b strings.Builder
	b.WriteString("| family | type | labels | bound | meaning |\n|---|---|---|---|---|\n")
	for _, file := range files {
		if len(r.byFile[file]) == 0 {
			return "", fmt.Errorf("%s declares nothing, or is shown twice", file)
		}
		for _, f := range r.byFile[file] {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, typeOf(f), labelsOf(f), f.Bound(), cell(f.Help))
		}
		delete(r.byFile, file)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func typeOf(f metric.Family) string {
	if f.Type == metric.TypeHistogram {
		return fmt.Sprintf("histogram, classic %s to %s", bound(f.Grid, 0), bound(f.Grid, f.Grid.Len()-1))
	}
	return f.Type.String()
}

// bound writes a classic bound the way people say it.
func bound(g metric.Grid, i int) string {
	v := math.Ldexp(1, g.Exponent(i))
	if g.Unit() != "seconds" {
		return strings.TrimSpace(fmt.Sprintf("%v %s", v, g.Unit()))
	}
	switch {
	case v < 1e-6:
		return fmt.Sprintf("%.3g ns", v*1e9)
	case v < 1e-3:
		return fmt.Sprintf("%.3g µs", v*1e6)
	case v < 1:
		return fmt.Sprintf("%.3g ms", v*1e3)
	case v < 3600:
		return fmt.Sprintf("%v s", v)
	default:
		return fmt.Sprintf("%.3g h", v/3600)
	}
}

func labelsOf(f metric.Family) string {
	if len(f.Labels) == 0 {
		return "–"
	}
	var labels []string
	for _, l := range f.Labels {
		labels = append(labels, fmt.Sprintf("`%s`: %s", l.Name, cell(l.Bound)))
	}
	return strings.Join(labels, "<br>")
}

// cell keeps text from ending its table cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// peers writes the networks that decide the class of a peer.
func peers() string {
	var b strings.Builder
	b.WriteString("| peer | networks |\n|---|---|\n")
	for _, class := range []bpf.Peer{bpf.Loopback, bpf.Private} {
		var networks []string
		for _, n := range bpf.PeerNetworks() {
			if n.Peer == class {
				networks = append(networks, n.Prefix.String())
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", class, strings.Join(networks, ", "))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestDocsNotice: the page fails for a file without a section, and for a section
// without a file.
func TestDocsNotice(t *testing.T) {
	r := newReference(t)
	before := len(r.byFile)
	if _, err := r.families("no_such_file.go"); err == nil {
		t.Error("a file that declares nothing was accepted")
	}
	if _, err := r.families("syscalls.go"); err != nil || len(r.byFile) != before-1 {
		t.Errorf("%d of %d files left: %v", len(r.byFile), before, err)
	}
	if _, err := r.families("syscalls.go"); err == nil {
		t.Error("a file was shown twice")
	}
}

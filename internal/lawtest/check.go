package lawtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Check reads every Go file of the tree and returns what breaks the law, one
// "file:line: what: why" each, in the order of the tree. The error is about
// files that cannot be read or parsed.
func Check(tree fs.FS) ([]string, error) {
	var broken []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		found, err := checkFile(name, source)
		broken = append(broken, found...)
		return err
	})
	return broken, err
}

// file is one Go file under judgement.
type file struct {
	dir    string
	test   bool // belongs to tests or the harness
	fset   *token.FileSet
	syntax *ast.File
	broken []string
}

func checkFile(name string, source []byte) ([]string, error) {
	f := &file{dir: path.Dir(name), fset: token.NewFileSet()}
	var err error
	if f.syntax, err = parser.ParseFile(f.fset, name, source, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	if ignored(f.syntax) {
		return nil, nil
	}
	f.test = strings.HasSuffix(name, "_test.go") || under(f.dir, harness...)

	if _, _, known := layerOf(f.dir); !known && !f.test {
		f.report(f.syntax.Package, "package %s has no layer: internal/lawtest/law.go must say where it belongs", f.dir)
	}
	for _, spec := range f.syntax.Imports {
		f.checkImport(spec)
	}
	f.checkInit()
	f.checkNames()
	return f.broken, nil
}

// ignored reports whether the file says "//go:build ignore": it is in no package.
func ignored(syntax *ast.File) bool {
	for _, group := range syntax.Comments {
		if group.Pos() > syntax.Package {
			break
		}
		for _, comment := range group.List {
			if comment.Text == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}

func (f *file) report(at token.Pos, format string, args ...any) {
	position := f.fset.Position(at)
	f.broken = append(f.broken, fmt.Sprintf("%s:%d: %s", position.Filename, position.Line, fmt.Sprintf(format, args...)))
}

func (f *file) checkImport(spec *ast.ImportSpec) {
	imported, _ := strconv.Unquote(spec.Path.Value)
	blank := spec.Name != nil && spec.Name.Name == "_"
	for _, law := range imports {
		if !under(imported, law.path) || under(f.dir, law.allowed...) {
			continue
		}
		// Tests may start programs and take client_golang's test helpers; a
		// blank import or a test library harms wherever it is.
		if f.test && !law.blank && law.path != "github.com/stretchr/testify" || law.blank && !blank {
			continue
		}
		f.report(spec.Pos(), "%s imports %s: %s", f.dir, imported, law.why)
	}
	if !f.test {
		f.checkLayer(spec, imported)
	}
}

func (f *file) checkLayer(spec *ast.ImportSpec, imported string) {
	entry, layer, known := layerOf(f.dir)
	if !known {
		return // reported already
	}
	if entry == "internal/event" && !standard(imported) {
		f.report(spec.Pos(), "%s imports %s: it uses the standard library only", f.dir, imported)
		return
	}
	target, ours := strings.CutPrefix(imported, module)
	if !ours {
		return
	}
	if under(target, harness...) {
		f.report(spec.Pos(), "%s imports %s: only tests do", f.dir, target)
		return
	}
	targetEntry, targetLayer, known := layerOf(target)
	if known && targetEntry != entry && targetLayer >= layer {
		f.report(spec.Pos(), "%s (layer %d) imports %s (layer %d): imports point down", f.dir, layer, target, targetLayer)
	}
}

// checkInit refuses init functions; generated code may need its own.
func (f *file) checkInit() {
	if ast.IsGenerated(f.syntax) {
		return
	}
	for _, decl := range f.syntax.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			f.report(fn.Pos(), "func init: whoever needs something makes it")
		}
	}
}

// checkNames refuses the uses that the table names forbids.
func (f *file) checkNames() {
	if f.test {
		return
	}
	paths := make(map[string]string, len(f.syntax.Imports)) // name in this file → import path
	for _, spec := range f.syntax.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		paths[name] = imported
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := selector.X.(*ast.Ident); ok {
			f.checkName(pkg, paths[pkg.Name], selector.Sel.Name)
		}
		return true
	})
}

func (f *file) checkName(at *ast.Ident, imported, name string) {
	for _, law := range names {
		if law.path == imported && !under(f.dir, law.allowed...) && slices.Contains(strings.Fields(law.names), name) {
			f.report(at.Pos(), "%s uses %s.%s: %s", f.dir, at.Name, name, law.why)
		}
	}
}

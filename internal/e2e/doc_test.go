package e2e

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The tests that the list of this package's comment names exist.
func TestAcceptanceListNamesTests(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	tree, defined := os.DirFS("../.."), map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = fs.WalkDir(tree, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(tree, path)
		for _, match := range function.FindAllSubmatch(source, -1) {
			defined[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`Test\w+`).FindAllString(string(text), -1)
	if len(named) < 40 {
		t.Errorf("the list names %d tests only", len(named))
	}
	for _, name := range named {
		if !defined[name] {
			t.Errorf("%s is named and does not exist", name)
		}
	}
}

package dashboards

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"

	"github.com/sonde-ebpf/sonde/internal/testenv/golden"
)

// TestGenerated writes json/, and fails when what is there differs.
func TestGenerated(t *testing.T) {
	files, err := JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		golden.Compare(t, filepath.Join("json", name), content)
	}
	entries, err := os.ReadDir("json")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()] == nil {
			t.Errorf("json/%s: no such dashboard", e.Name())
		}
	}
	again, err := JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if !bytes.Equal(content, again[name]) {
			t.Errorf("%s: made twice, it differs", name)
		}
	}
}

// decoded returns the committed dashboards, decoded strictly.
func decoded(t *testing.T) map[string]classic {
	t.Helper()
	plugins.RegisterDefaultPlugins() // without them options are maps
	paths, err := filepath.Glob("json/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]classic{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := strict(content)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		all[path] = d
	}
	if len(all) != 7 {
		t.Errorf("%d dashboards, want 7", len(all))
	}
	return all
}

// strict decodes a dashboard. What the decoder returns where there is no fault is an
// empty list, and no nil.
func strict(content []byte) (d classic, err error) {
	err = d.UnmarshalJSONStrict(content)
	if faults, ok := errors.AsType[cog.BuildErrors](err); ok && len(faults) == 0 {
		err = nil
	}
	return d, err
}

// TestStrict: the files decode into the types they were made from, with nothing left
// over; and what is left over would be noticed.
func TestStrict(t *testing.T) {
	for path, d := range decoded(t) {
		if d.Uid == nil || len(d.Panels) == 0 {
			t.Errorf("%s: decoded to nothing", path)
		}
	}
	if _, err := strict([]byte(`{"title": "x", "titel": "y"}`)); err == nil {
		t.Error("an unknown key is not noticed")
	}
}

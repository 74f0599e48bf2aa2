package container_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

const imageName = "sonde.test/busybox:1"

// image returns an OCI image of one layer: a busybox under the names it is called by.
func image(t *testing.T, busybox []byte) []byte {
	t.Helper()
	layer := archive(t, 0o755, file{"bin/", nil}, file{"bin/sleep", busybox}, file{"dev/", nil}, file{"etc/", nil}, file{"proc/", nil}, file{"sys/", nil})
	type object map[string]any
	blob := func(kind string, content []byte) (object, file) {
		sum := fmt.Sprintf("%x", sha256.Sum256(content))
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum, "size": len(content)}, file{"blobs/sha256/" + sum, content}
	}
	text := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	layerAt, layerBlob := blob("layer.v1.tar", layer)
	configAt, configBlob := blob("config.v1+json", text(object{
		"os": "linux", "architecture": runtime.GOARCH,
		"config": object{"Entrypoint": []string{"/bin/sleep", "86400"}},
		"rootfs": object{"type": "layers", "diff_ids": []any{layerAt["digest"]}},
	}))
	manifestAt, manifestBlob := blob("manifest.v1+json", text(object{"schemaVersion": 2, "config": configAt, "layers": []any{layerAt}}))
	manifestAt["annotations"] = object{"io.containerd.image.name": imageName}
	return archive(t, 0o644,
		file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		file{"index.json", text(object{"schemaVersion": 2, "manifests": []any{manifestAt}})},
		layerBlob, configBlob, manifestBlob)
}

type file struct {
	name    string // of a directory if it ends with a slash
	content []byte
}

func archive(t *testing.T, mode int64, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: mode, Size: int64(len(f.content))}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

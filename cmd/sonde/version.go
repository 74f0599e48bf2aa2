package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
)

// Set by the linker (see the Makefile).
var (
	version  = "0.0.0-dev"
	revision = "unknown"
)

// build describes this binary.
type build struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	GoVersion string `json:"goversion"`
	Platform  string `json:"platform"`
}

func thisBuild() build {
	return build{version, revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

func runVersion(w io.Writer, asJSON bool) error {
	b := thisBuild()
	if asJSON {
		return writeJSON(w, b)
	}
	_, err := fmt.Fprintf(w, "sonde %s (revision %s, %s, %s)\n", b.Version, b.Revision, b.GoVersion, b.Platform)
	return err
}

// writeJSON writes one indented JSON value and a newline.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

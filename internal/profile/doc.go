// Package profile makes pprof profiles: of the sensor itself, as the Go run time
// takes them, and of the whole node, from the stacks that package bpf counts in the
// kernel. Addresses are turned into names here, after the last sample was taken.
//
// All profiles are gzipped protobuf, as `go tool pprof` reads them.
package profile

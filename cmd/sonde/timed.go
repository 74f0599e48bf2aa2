package main

import "github.com/sonde-ebpf/sonde/internal/stream"

// timed is a source whose reading is timed as an operation.
type timed[T any] struct {
	operation string
	read      func() (T, error)
	timers    *stream.Timers
}

// Read reads and notes how long it took.
func (t timed[T]) Read() (T, error) {
	defer t.timers.Time(t.operation)()
	return t.read()
}

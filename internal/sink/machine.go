package sink

import "time"

// Container is what is known of the container that a process is in; the zero value
// stands for the host. What its runtime has not told is empty.
type Container struct {
	ID, Name, Image, Namespace, Pod string
}

// Machine is what a sink asks about this machine beyond what events carry. It is asked
// for every event, from the goroutine of the sink, and must not allocate.
type Machine interface {
	// Container describes the container with that id.
	Container(id string) Container
	// Boot returns the time at which CLOCK_BOOTTIME was 0.
	Boot() time.Time
	// Node returns the machine's name.
	Node() string
}

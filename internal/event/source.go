package event

// Source is who saw an event happen.
type Source uint8

// The sources.
const (
	// SourceKernel is the kernel of this machine.
	SourceKernel Source = iota
	// SourceGVisor is the kernel of a gVisor sandbox. Process ids are those of the
	// sandbox's own namespace, and nothing in such an event is to be trusted more
	// than what runs there.
	SourceGVisor

	// Sources is the number of sources.
	Sources = int(SourceGVisor) + 1
)

// String returns the source's name, as labels and JSON carry it.
func (s Source) String() string { return [Sources]string{"kernel", "gvisor"}[s] }

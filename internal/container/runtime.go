package container

// Runtime is the software that made a container.
type Runtime uint8

// The runtimes. Unknown is a container whose path does not tell and that no
// runtime has claimed yet.
const (
	Unknown Runtime = iota
	Containerd
	CRIO
	Docker
	Podman

	// Runtimes is the number of values, Unknown included.
	Runtimes = int(Podman) + 1
)

var runtimeNames = [Runtimes]string{"unknown", "containerd", "crio", "docker", "podman"}

// String returns the name as labels, JSON and the configuration spell it.
func (r Runtime) String() string {
	if int(r) < len(runtimeNames) {
		return runtimeNames[r]
	}
	return runtimeNames[Unknown]
}

// Known returns the runtimes that can be asked, in the order in which they are
// asked about a container whose path does not tell: CRI first, because only it
// knows pods.
func Known() []Runtime { return []Runtime{Containerd, CRIO, Docker, Podman} }

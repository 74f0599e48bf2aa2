package event

// GuessInbound says which side of a connection serves, where nobody saw it begin:
// the one with the port that looks less like one that the kernel gave out. The
// kernel side guesses alike (bpf/udp.bpf.c).
func GuessInbound(local, remote uint16) bool { return ephemeral(local) < ephemeral(remote) }

// ephemeral scores how much a port looks like one of those that kernels give out:
// the ranges of IANA, of Linux, and of systems older than both.
func ephemeral(port uint16) int {
	switch {
	case port >= 49152:
		return 4
	case port >= 32768:
		return 3
	case port >= 1025 && port <= 5000:
		return 2
	case port == 1024:
		return 1
	}
	return 0
}

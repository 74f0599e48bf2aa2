package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
)

// Refused reports whether err is the verdict of the kernel's verifier on a
// program. Its errno (EACCES, EINVAL, …) then says nothing about permissions.
func Refused(err error) bool {
	var verdict *ebpf.VerifierError
	return errors.As(err, &verdict)
}

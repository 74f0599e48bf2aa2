package bpf

import (
	"encoding/binary"
	"unsafe"

	"github.com/cilium/ebpf"
)

// writeUint64 stores one aligned word of a mapped map. The kernel sees it whole:
// an aligned eight-byte copy is one store on the architectures we build for.
func writeUint64(m *ebpf.Memory, off int64, v uint64) error {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], v)
	_, err := m.WriteAt(b[:], off)
	return err
}

func readUint64(m *ebpf.Memory, off int64) (uint64, error) {
	var b [8]byte
	_, err := m.ReadAt(b[:], off)
	return binary.NativeEndian.Uint64(b[:]), err
}

// addTo adds from to to, element by element.
func addTo(to, from []uint64) {
	for i, n := range from {
		to[i] += n
	}
}

// bytesOf views a value without pointers as the bytes it is.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

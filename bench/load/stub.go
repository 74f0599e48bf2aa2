package load

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
)

// stubCode is exit(0) in machine code. A program that is nothing but this costs
// hardly more than the fork, exec and exit that are measured, and needs no compiler.
var stubCode = map[string]struct {
	machine elf.Machine
	code    []byte
}{
	"amd64": {elf.EM_X86_64, []byte{
		0x31, 0xff, // xor edi, edi
		0xb8, 0xe7, 0, 0, 0, // mov eax, exit_group
		0x0f, 0x05, // syscall
	}},
	"arm64": {elf.EM_AARCH64, []byte{
		0x00, 0x00, 0x80, 0xd2, // mov x0, 0
		0xc8, 0x0b, 0x80, 0xd2, // mov x8, exit_group
		0x01, 0x00, 0x00, 0xd4, // svc 0
	}},
}

// WriteStub writes a static program that does nothing but end with status 0.
func WriteStub(path string) error {
	stub, ok := stubCode[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("write stub: no code for %s", runtime.GOARCH)
	}
	const base, head = 0x400000, 64 + 56
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(stub.machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + head, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	size := uint64(head + len(stub.code))
	segment := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base,
		Filesz: size, Memsz: size, Align: 0x10000,
	}
	var b bytes.Buffer
	for _, part := range []any{header, segment, stub.code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return fmt.Errorf("write stub: %w", err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o755); err != nil {
		return fmt.Errorf("write stub: %w", err)
	}
	return nil
}

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// kernelTypes returns the types that programs are relocated against: the
// external BTF file where one was named, else the kernel's own.
func (k *Kernel) kernelTypes() (*btf.Spec, error) {
	if k.types != nil {
		return k.types, nil
	}
	types, err := k.cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read kernel BTF: %w", err)
	}
	return types, nil
}

// tracepointArgs returns the arguments of a tracepoint as this kernel declares
// them. They grow and change between kernels, which is why they are asked for.
func (k *Kernel) tracepointArgs(name string) ([]btf.FuncParam, error) {
	types, err := k.kernelTypes()
	if err != nil {
		return nil, err
	}
	var def *btf.Typedef
	if err := types.TypeByName("btf_trace_"+name, &def); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			return nil, fmt.Errorf("tracepoint %s: not in this kernel: %w", name, errors.ErrUnsupported)
		}
		return nil, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	ptr, ok := def.Type.(*btf.Pointer)
	if !ok {
		return nil, fmt.Errorf("tracepoint %s: its type is a %T", name, def.Type)
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) == 0 {
		return nil, fmt.Errorf("tracepoint %s: its type points to a %T", name, ptr.Target)
	}
	return proto.Params[1:], nil // the first is the tracepoint's own
}

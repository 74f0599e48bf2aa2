package bpf

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// kernelFunction returns where a function of the kernel begins and ends. The
// kernel lists its symbols by address, so the end is where the next one begins.
func kernelFunction(name string) (begin, end uint64, err error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return 0, 0, fmt.Errorf("find kernel function %s: %w", name, err)
	}
	defer f.Close()
	suffix := " " + name
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		found := begin == 0 && strings.HasSuffix(line, suffix)
		if begin == 0 && !found {
			continue
		}
		hex, _, _ := strings.Cut(line, " ")
		at, err := strconv.ParseUint(hex, 16, 64)
		switch {
		case err != nil:
			return 0, 0, fmt.Errorf("find kernel function %s: %w", name, err)
		case found && at == 0:
			return 0, 0, fmt.Errorf("find kernel function %s: the kernel hides addresses: %w", name, os.ErrPermission)
		case found:
			begin = at
		case at > begin:
			return begin, at, nil
		}
	}
	return 0, 0, fmt.Errorf("find kernel function %s: %w", name, os.ErrNotExist)
}

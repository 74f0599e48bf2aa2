// Sonde is an eBPF sensor for one Linux node: it counts and times what the
// kernel does, in the kernel, and shows it as Prometheus metrics.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

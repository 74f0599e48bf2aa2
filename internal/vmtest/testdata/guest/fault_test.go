package guest

import (
	"os"
	"testing"
	"time"
)

// TestFault misbehaves on demand, so that the rig's own test can see each way
// to fail being noticed. The kernel hands SONDE_FAULT over from its command line.
func TestFault(t *testing.T) {
	switch os.Getenv("SONDE_FAULT") {
	case "fail":
		t.Error("failing as asked")
	case "crash":
		if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
	}
}

package sink

import (
	"testing"
	"time"
)

func TestStamps(t *testing.T) {
	var s stamps
	start := time.Date(1999, 12, 31, 23, 59, 30, 0, time.FixedZone("", 3600))
	for _, step := range []time.Duration{time.Nanosecond, 1_000_100, 333 * time.Millisecond, time.Second, 17 * time.Second, 400 * 24 * time.Hour} {
		for n := range 100 {
			at := start.Add(time.Duration(n) * step)
			want := at.UTC().Format(time.RFC3339Nano)
			if got := string(s.append(nil, at)); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
	}
	zero := time.Unix(0, 0)
	if got := string(new(stamps).append(nil, zero)); got != zero.UTC().Format(time.RFC3339Nano) {
		t.Errorf("the first second is %s", got)
	}
}

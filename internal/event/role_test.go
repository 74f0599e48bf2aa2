package event

import "testing"

func TestGuessInbound(t *testing.T) {
	for _, tc := range []struct {
		local, remote uint16
		want          bool
	}{
		{53, 41000, true}, {41000, 53, false}, {1024, 1025, true}, {5001, 1025, true}, {32768, 49152, true},
		{49152, 50000, false}, // nothing to tell them apart: the one who asks
	} {
		if got := GuessInbound(tc.local, tc.remote); got != tc.want {
			t.Errorf("local %d, remote %d: %v, want %v", tc.local, tc.remote, got, tc.want)
		}
	}
}

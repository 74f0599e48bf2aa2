package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Pressure is the time lost to one resource, as pressure stall information
// counts it: monotonic since the cgroup was made.
type Pressure struct {
	Resource string // "cpu", "io", "memory"
	Kind     string // "some": at least one task waited; "full": all of them did
	Time     time.Duration
}

// SelfPressure reads the pressure files of the sensor's own cgroup. They are a
// v2 thing; on a hybrid machine they come from the v2 side. Resources without a
// file are left out, and without any the error is ErrNoData.
func (f FS) SelfPressure() ([]Pressure, error) {
	// No controller of that name exists in v1, so this is the v2 cgroup.
	cg, err := f.SelfCgroup("pressure")
	if err != nil {
		return nil, err
	}
	var all []Pressure
	for _, resource := range []string{"cpu", "io", "memory"} {
		stalls, err := parsed(filepath.Join(cg.Dir, resource+".pressure"), parsePressure)
		switch {
		case errors.Is(err, ErrNoData), errors.Is(err, syscall.EOPNOTSUPP):
			continue // no such file, or PSI is switched off
		case err != nil:
			return nil, err
		}
		for _, p := range stalls {
			p.Resource = resource
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read pressure in %s: %w", cg.Dir, ErrNoData)
	}
	return all, nil
}

// parsePressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; the
// total is in microseconds. Resource is left to the caller.
func parsePressure(r io.Reader) ([]Pressure, error) {
	var all []Pressure
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		if kind != "some" && kind != "full" {
			continue
		}
		_, total, ok := strings.Cut(rest, "total=")
		us, err := strconv.ParseInt(strings.TrimSpace(total), 10, 64)
		if !ok || err != nil || us < 0 || us > int64(1<<62)/1000 {
			return nil, fmt.Errorf("pressure line %q: want total=<microseconds>", lines.Text())
		}
		all = append(all, Pressure{Kind: kind, Time: time.Duration(us) * time.Microsecond})
	}
	return all, lines.Err()
}

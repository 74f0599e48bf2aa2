package remote

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Options say where the monitor is and how long a batch of messages waits for it. They are
// those of gVisor's sink, but for one default: the events of this one have a queue
// behind them, so that it may wait.
type Options struct {
	Endpoint   string        // path of the monitor's socket
	Retries    int           // how often a message is tried again that finds the socket full
	Backoff    time.Duration // pause before the first of these tries; it doubles each time
	BackoffMax time.Duration // the longest pause
}

// Defaults of the options.
const (
	DefaultRetries    = 100 // with the other defaults, patience of almost a second
	DefaultBackoff    = 25 * time.Microsecond
	DefaultBackoffMax = 10 * time.Millisecond

	// MaxRetries bounds what may be written, MaxPatience what comes of it: the end of a
	// session does not wait longer for a monitor that takes nothing.
	MaxRetries  = 1000
	MaxPatience = time.Second
)

// ParseOptions reads the config object of a session's sink. It returns every fault.
func ParseOptions(config map[string]any) (Options, error) {
	o := Options{Retries: DefaultRetries, Backoff: DefaultBackoff, BackoffMax: DefaultBackoffMax}
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if err := o.set(key, config[key]); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	if _, named := config["endpoint"]; !named {
		faults = append(faults, errors.New("endpoint: write the path of the monitor's socket"))
	}
	if o.Backoff > o.BackoffMax {
		faults = append(faults, fmt.Errorf("backoff: %v is longer than backoff_max, %v", o.Backoff, o.BackoffMax))
	}
	return o, errors.Join(faults...)
}

func (o *Options) set(key string, value any) (err error) {
	switch key {
	case "endpoint":
		path, ok := value.(string)
		if !ok || path == "" {
			return errors.New("write the path of the monitor's socket")
		}
		o.Endpoint = path
	case "retries":
		n, ok := value.(float64)
		if o.Retries = int(n); !ok || float64(o.Retries) != n || n < 0 || n > MaxRetries {
			return fmt.Errorf("write a whole number from 0 to %d", MaxRetries)
		}
	case "backoff":
		o.Backoff, err = period(value)
	case "backoff_max":
		o.BackoffMax, err = period(value)
	default:
		return errors.New("no such key; there are endpoint, retries, backoff, backoff_max")
	}
	return err
}

func period(value any) (time.Duration, error) {
	text, _ := value.(string)
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > time.Minute {
		return 0, errors.New(`write a duration up to a minute, such as "25µs"`)
	}
	return d, nil
}

// patience is how long a batch waits for room: the sum of the pauses, within bounds.
func (o *Options) patience() (sum time.Duration) {
	pause := o.Backoff
	for range o.Retries {
		sum += pause
		pause = min(2*pause, o.BackoffMax)
	}
	return min(sum, MaxPatience)
}

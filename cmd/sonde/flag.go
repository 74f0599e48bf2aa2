package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/sonde-ebpf/sonde/internal/config"
)

// setting is one flag of run and check, together with its environment variable
// and, where it has one, its key in the configuration file. Its text is kept as
// it was given: what is wrong with it is then said in the same words whether it
// came from a flag, the environment or the file.
type setting struct {
	name string
	help string
	// preset is the default, as help shows it; several for a repeatable flag.
	preset []string
	// key is the key of the configuration file that the setting overrides. Such a
	// setting is checked and kept there.
	key string
	// set checks and keeps a text; its error says what to write instead. nil if
	// there is a key.
	set func(text string) error

	// show hides the secret parts of a text from messages; nil if it has none.
	show func(text string) string

	toggle   bool // takes no value: --name, --no-name
	repeated bool

	texts  []string
	byUser bool
}

// String implements kingpin.Value.
func (s *setting) String() string { return strings.Join(s.texts, ",") }

// Set implements kingpin.Value; kingpin calls it for flags, environment and presets.
func (s *setting) Set(text string) error {
	s.texts = append(s.texts, text)
	return nil
}

// IsBoolFlag tells kingpin which settings are toggles.
func (s *setting) IsBoolFlag() bool { return s.toggle }

// IsCumulative tells kingpin which settings may be given several times.
func (s *setting) IsCumulative() bool { return s.repeated }

// env is the environment variable of the setting.
func (s *setting) env() string {
	return "SONDE_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.name))
}

// register makes the setting a flag of a verb.
func (s *setting) register(verb *kingpin.CmdClause) {
	verb.Flag(s.name, s.help).Envar(s.env()).Default(s.preset...).IsSetByUser(&s.byUser).SetValue(s)
}

// origin tells where the text comes from, and names the source for a message.
func (s *setting) origin() (config.Origin, string) {
	switch {
	case s.byUser:
		return config.OriginFlag, "--" + s.name
	case os.Getenv(s.env()) != "": // an empty variable counts as none
		return config.OriginEnv, s.env()
	}
	return config.OriginDefault, "--" + s.name
}

// apply checks and keeps the texts: in c if the setting has a key there and its
// default is overridden, else in its own place.
func (s *setting) apply(c *config.Config) error {
	origin, source := s.origin()
	for _, text := range s.texts {
		if s.key != "" {
			if origin == config.OriginDefault {
				return nil
			}
			if err := c.Set(s.key, text, source, origin); err != nil {
				return err
			}
			continue
		}
		if err := s.set(text); err != nil {
			return fmt.Errorf("%s is %q: %w", source, s.shown(text), err)
		}
	}
	return nil
}

// shown is a text as messages may show it.
func (s *setting) shown(text string) string {
	if s.show == nil {
		return text
	}
	return s.show(text)
}

// The ways to keep a text.

func text(dst *string) func(string) error {
	return func(t string) error { *dst = t; return nil }
}

func texts(dst *[]string, check func(string) error) func(string) error {
	return func(t string) error {
		if err := check(t); err != nil {
			return err
		}
		*dst = append(*dst, t)
		return nil
	}
}

func oneOf(dst *string, values ...string) func(string) error {
	return func(t string) error {
		if slices.Contains(values, t) {
			*dst = t
			return nil
		}
		return fmt.Errorf("write %s", strings.Join(values, " or "))
	}
}

func period(dst *time.Duration, low, high time.Duration) func(string) error {
	return func(t string) error {
		d, err := time.ParseDuration(t)
		if err != nil || d < low || d > high {
			return fmt.Errorf("write a duration with its unit from %v to %v, such as 20s", low, high)
		}
		*dst = d
		return nil
	}
}

func toggled(dst *bool) func(string) error {
	return func(t string) error {
		switch t {
		case "true":
			*dst = true
		case "false":
			*dst = false
		default:
			return fmt.Errorf("write true or false")
		}
		return nil
	}
}

func whole(dst *int, low, high int) func(string) error {
	return func(t string) error {
		var n int
		var rest string
		if k, _ := fmt.Sscanf(t, "%d%s", &n, &rest); k != 1 || n < low || n > high {
			return fmt.Errorf("write a whole number from %d to %d", low, high)
		}
		*dst = n
		return nil
	}
}

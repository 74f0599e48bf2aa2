package event

import (
	"strings"
	"testing"
)

func TestEnvironmentsKeepNoSecrets(t *testing.T) {
	for env, want := range map[string]string{
		"":                                  "",
		"HOME=/root\x00":                    "HOME=/root\x00",
		"A=1\x00DB_PASSWORD=x=y\x00B=2\x00": "A=1\x00DB_PASSWORD=\x00B=2\x00",
		"api_token=abc":                     "api_token=",
		"KEY\x00=KEY\x00":                   "KEY\x00=KEY\x00",
		"SECRET=\x00\x00":                   "SECRET=\x00\x00",
	} {
		var (
			ed Editor
			ev Event
		)
		ed.Set(&ev, TextEnv, []byte(env), false)
		if got := string(ev.Text(TextEnv)); got != want {
			t.Errorf("%q became %q, want %q", env, got, want)
		}
		if n := ed.Sanitized().Redacted; n > 0 != (env != want) {
			t.Errorf("%q: counted %d", env, n)
		}
	}
	var (
		ed Editor
		ev Event
	)
	ed.KeepArguments(false)
	ed.Set(&ev, TextEnv, []byte("HOME=/root\x00"), false)
	if len(ev.Data) > 0 {
		t.Errorf("withheld: the event holds %q", ev.Data)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte("A=b\x00TOKEN=c\x00"))
	f.Fuzz(func(t *testing.T, env []byte) {
		names := strings.Count(string(env), "\x00")
		got := env[:redact(env)]
		if strings.Count(string(got), "\x00") != names {
			t.Errorf("%d variables became %q", names, got)
		}
	})
}

package exporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/sonde-ebpf/sonde/internal/outbound"
)

// VictoriaMetrics' push function always uses the default HTTP client: it has no place
// for own authorities, and its errors cannot be told apart. But it passes its context
// to the request, so each try carries its client in there. A hook in the default
// transport hands such requests over and lets all others pass as ever.

// pushAttempt is one try on its way through the push function.
type pushAttempt struct {
	client   *outbound.Client
	answered bool
	failure  *outbound.Failure
}

type attemptKey struct{}

func (a *pushAttempt) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptKey{}, a)
}

// result tells how the try ended. The push function reports some failures as
// success (a cancelled context) and all others as text, so what the transport saw
// comes first.
func (a *pushAttempt) result(err error) *outbound.Failure {
	switch {
	case a.failure != nil:
		return a.failure
	case err != nil:
		return &outbound.Failure{Reason: outbound.Rejected, Err: err}
	case !a.answered:
		return &outbound.Failure{Reason: outbound.Timeout, Err: context.Canceled}
	}
	return nil
}

// hookScheme is the scheme of the URLs given to the push function.
const hookScheme = "http"

// installHook adds the hook to the default transport, once in a process: the
// transport refuses a second one for the same scheme.
var installHook = sync.OnceValue(func() (err error) {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return errors.New("the default HTTP transport has been replaced")
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the default HTTP transport: %v", p)
		}
	}()
	t.RegisterProtocol(hookScheme, pushHook{})
	return nil
})

// pushHook hands requests that carry a try to its transport.
type pushHook struct{}

func (pushHook) RoundTrip(r *http.Request) (*http.Response, error) {
	a, ok := r.Context().Value(attemptKey{}).(*pushAttempt)
	if !ok {
		return nil, http.ErrSkipAltProtocol
	}
	resp, err := a.client.Do(r)
	if errors.As(err, &a.failure) {
		return nil, err
	}
	a.answered = true
	return resp, nil
}

package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Reason is why sending failed.
type Reason uint8

// The reasons.
const (
	BadCredentials Reason = iota // a file could not be read
	DNS                          // the name is not known
	ProxyRefused                 // the proxy cannot be reached, or refuses
	Connect                      // no connection
	TLS                          // no trust
	Timeout                      // no answer in time
	Redirect                     // the answer points elsewhere, where credentials must not go
	Unauthorized                 // 401, 403
	Rejected                     // other 4xx
	Server                       // 5xx, 429

	Reasons = int(Server) + 1
)

var reasons = [Reasons]struct {
	name, hint string
	retriable  bool
}{
	BadCredentials: {"credentials", "make the file readable for the sensor", false},
	DNS:            {"dns", "check the host of the url and the resolver of this machine", true},
	ProxyRefused:   {"proxy", "check the url of the proxy and its credentials", true},
	Connect:        {"connect", "check that the receiver listens and that no firewall is between", true},
	TLS:            {"tls", "name the receiver's authority in ca_file, or correct its certificate", false},
	Timeout:        {"timeout", "the receiver is slow or gone; allow more time if it is only slow", true},
	Redirect:       {"redirect", "use the url that the receiver points to", false},
	Unauthorized:   {"unauthorized", "check the credentials in the files", false},
	Rejected:       {"rejected", "the receiver does not take this: check the url", false},
	Server:         {"server", "the receiver has trouble of its own", true},
}

// String returns the reason as labels carry it.
func (r Reason) String() string { return reasons[r].name }

// Hint says what may help.
func (r Reason) Hint() string { return reasons[r].hint }

// Retriable reports whether the same may succeed a moment later.
func (r Reason) Retriable() bool { return reasons[r].retriable }

// Names returns every reason as labels carry it, in the order of its value.
func Names() (all []string) {
	for _, r := range reasons {
		all = append(all, r.name)
	}
	return all
}

// Failure is an attempt to send that failed.
type Failure struct {
	Reason     Reason
	Err        error
	RetryAfter time.Duration // asked for by the receiver, 0 if not
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// reasonOf tells why no answer came.
func reasonOf(err error) Reason {
	var (
		failure   *Failure
		dnsErr    *net.DNSError
		opErr     *net.OpError
		netErr    net.Error
		verifyErr *tls.CertificateVerificationError
		alertErr  tls.AlertError
		recordErr tls.RecordHeaderError
	)
	isOp := errors.As(err, &opErr)
	switch {
	case errors.As(err, &failure):
		return failure.Reason
	case isOp && opErr.Op == "proxyconnect":
		return ProxyRefused
	case errors.As(err, &verifyErr), errors.As(err, &alertErr), errors.As(err, &recordErr):
		return TLS
	case errors.As(err, &dnsErr):
		return DNS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return Timeout
	}
	return Connect
}

func reasonOfStatus(code int) Reason {
	switch {
	case code == http.StatusProxyAuthRequired:
		return ProxyRefused
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return Unauthorized
	case code == http.StatusTooManyRequests, code >= 500:
		return Server
	case code/100 == 3:
		return Redirect
	}
	return Rejected
}

// retryAfter reads the header in its form of seconds; the other form is not worth it.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// AsFailure returns the failure that an error of Do is.
func AsFailure(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Reason: reasonOf(err), Err: err}
}

package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// passedListeners takes over the listening sockets that systemd has opened.
func passedListeners() ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take over sockets of systemd: %w", err)
	}
	// What is no listening stream socket is nil.
	passed = slices.DeleteFunc(passed, func(l net.Listener) bool { return l == nil })
	if len(passed) == 0 {
		return nil, errors.New("take over sockets of systemd: none was passed")
	}
	return passed, nil
}

// listenError gives an error of opening a listener its exit code and a hint.
func listenError(err error) error {
	hint := ""
	switch errnoOf(err) {
	case syscall.EADDRINUSE:
		hint = "another process listens there: stop it or choose another --web.listen-address"
	case syscall.EADDRNOTAVAIL:
		hint = "this machine does not have that address: choose another --web.listen-address"
	case syscall.EACCES:
		hint = "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
	}
	return &exitError{code: exitListen, err: err, hint: hint}
}

// unwrapListen takes the address out of net's error, for callers that name it.
func unwrapListen(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

package container

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// listen opens a socket that the test owns.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	// Not t.TempDir, whose path may be too long for a socket.
	dir, err := os.MkdirTemp("", "sonde")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close() // the server may have done it
		_ = os.RemoveAll(dir)
	})
	return l, path
}

// serveHTTP serves a Docker-compatible API, /version included.
func serveHTTP(t *testing.T, inspect http.HandlerFunc) (path string) {
	t.Helper()
	l, path := listen(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Version":"28.2.2","Components":[{"Name":"Engine"}]}`)
	})
	mux.HandleFunc("GET /containers/{id}/json", inspect)
	serve(t, l, mux)
	return path
}

func serve(t *testing.T, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.Serve(l) }() // it ends with Close
	t.Cleanup(func() { _ = server.Close() })
}

// answer is a whole API that says one thing to everything.
func answer(code int, body string) func(*testing.T) string {
	return func(t *testing.T) string {
		l, path := listen(t)
		serve(t, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}))
		return path
	}
}

// serveGRPC serves a CRI.
func serveGRPC(t *testing.T, api cri.RuntimeServiceServer, options ...grpc.ServerOption) (path string) {
	t.Helper()
	l, path := listen(t)
	server := grpc.NewServer(options...)
	if api != nil {
		cri.RegisterRuntimeServiceServer(server, api)
	}
	go func() { _ = server.Serve(l) }() // it ends with Stop
	t.Cleanup(server.Stop)
	return path
}

// fakeCRI answers what a test wants, and nothing else.
type fakeCRI struct {
	cri.UnimplementedRuntimeServiceServer
	err    error
	status *cri.ContainerStatus
}

func (f fakeCRI) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeVersion: "1.30.0"}, f.err
}

func (f fakeCRI) ContainerStatus(context.Context, *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	if f.status == nil {
		return nil, status.Error(codes.NotFound, "no such container")
	}
	return &cri.ContainerStatusResponse{Status: f.status}, nil
}

func (f fakeCRI) PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "no such sandbox")
}

func in(name string) func(*testing.T) string {
	return func(t *testing.T) string { return filepath.Join(t.TempDir(), name) }
}

func stale(t *testing.T) string {
	l, path := listen(t)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func silent(t *testing.T) string {
	_, path := listen(t)
	return path
}

// closing accepts every connection and says nothing.
func closing(t *testing.T) string {
	l, path := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	return path
}

// namespacesOnly is a containerd whose CRI is switched off.
func namespacesOnly(t *testing.T) string {
	return serveGRPC(t, nil, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); method != "/containerd.services.namespaces.v1.Namespaces/List" {
			return status.Error(codes.Unimplemented, method)
		}
		return stream.SendMsg(&cri.VersionResponse{})
	}))
}

// TestReasons: every way in which a socket can be useless has its own name.
func TestReasons(t *testing.T) {
	for _, test := range []struct {
		name    string
		runtime Runtime
		path    func(*testing.T) string
		want    Reason
		fault   string
	}{
		{"docker", Docker, answer(200, `{"Version":"28"}`), Answers, ""},
		{"podman", Podman, answer(200, `{"Version":"4.3.1","Components":[{"Name":"Podman Engine"}]}`), Answers, ""},
		{"crio", CRIO, func(t *testing.T) string { return serveGRPC(t, fakeCRI{}) }, Answers, ""},
		{"containerd", Containerd, func(t *testing.T) string { return serveGRPC(t, fakeCRI{}) }, Answers, ""},
		{"containerd without CRI", Containerd, namespacesOnly, Answers, ""},
		{"crio without CRI", CRIO, func(t *testing.T) string { return serveGRPC(t, nil) }, Broken, "unknown service"},
		{"missing", Docker, in("nothing"), Missing, "no such file"},
		{"missing directory", CRIO, in("no/thing"), Missing, "no such file"},
		{"directory", Docker, func(t *testing.T) string { return t.TempDir() }, NotASocket, "not a socket but a directory"},
		{"file", Containerd, func(t *testing.T) string {
			path := in("file")(t)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, NotASocket, "not a socket but a file"},
		{"refused", Podman, stale, Refused, "connection refused"},
		{"forbidden", Docker, answer(403, "authorization denied by plugin"), Denied, "authorization denied by plugin"},
		{"forbidden by CRI", CRIO, func(t *testing.T) string {
			return serveGRPC(t, fakeCRI{err: status.Error(codes.PermissionDenied, "no")})
		}, Denied, "no"},
		{"silent", Docker, silent, Timeout, "deadline exceeded"},
		{"silent CRI", CRIO, silent, Timeout, "DeadlineExceeded"},
		{"closing", Docker, closing, Broken, ""},
		{"error", Docker, answer(500, "out of order"), Broken, "status 500: out of order"},
		{"garbage", Docker, answer(200, "<html>"), Broken, "invalid character"},
		{"HTTP in place of gRPC", Containerd, answer(200, "{}"), Broken, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newService(test.runtime, test.path(t), 300*time.Millisecond)
			defer s.close()
			s.check(t.Context())
			got := s.status.Load()
			if got.Reason != test.want || got.Up != (test.want == Answers) || !strings.Contains(got.Fault, test.fault) {
				t.Errorf("%+v, want %s and %q", got, test.want, test.fault)
			}
			if !got.Up && got.Reason.hint(s) == "" {
				t.Error("no hint")
			}
			if s.check(t.Context()) {
				t.Error("a second look found a change")
			}
		})
	}
}

// TestDenied: a socket that we may not connect to.
func TestDenied(t *testing.T) {
	testenv.Root(t)
	path := answer(200, "{}")(t)
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and end it with the goroutine: it is nobody's now
		_, err := unix.SetfsuidRetUid(65534)
		if err == nil {
			_, err = openSocket(t.Context(), path)
		}
		done <- err
	}()
	if err := <-done; reasonOf(err) != Denied {
		t.Errorf("%v is %s", err, reasonOf(err))
	}
}

// TestUnused: a runtime that is not here is no fault, until its containers are.
func TestUnused(t *testing.T) {
	s := newService(Docker, "", time.Second)
	s.paths = []string{in("nothing")(t)}
	s.check(t.Context())
	if got := s.status.Load(); got.Up || got.Reason != Unused || s.expected() {
		t.Errorf("%+v", got)
	}
	s.seen.Store(true)
	s.check(t.Context())
	if got := s.status.Load(); got.Reason != Missing || !s.expected() || !strings.Contains(got.Fault, "nothing") {
		t.Errorf("with containers of it: %+v", got)
	}
}

// TestUsualPlaces: one socket under two names is one socket, and Podman under
// Docker's name is not Docker; of several containerds all are asked.
func TestUsualPlaces(t *testing.T) {
	podman := answer(200, `{"Version":"4.3.1","Components":[{"Name":"Podman Engine"}]}`)(t)
	s := newService(Docker, "", time.Second)
	s.paths = []string{podman}
	defer s.close()
	s.check(t.Context())
	if got := s.status.Load(); got.Reason != Unused {
		t.Errorf("docker: %+v", got)
	}

	first, second := serveGRPC(t, fakeCRI{}), serveGRPC(t, fakeCRI{status: &cri.ContainerStatus{Metadata: &cri.ContainerMetadata{Name: "web"}}})
	link := in("link")(t)
	if err := os.Symlink(first, link); err != nil {
		t.Fatal(err)
	}
	c := newService(Containerd, "", time.Second)
	c.paths = []string{in("nothing")(t), first, link, second}
	defer c.close()
	c.check(t.Context())
	if got := c.status.Load(); !slices.Equal(got.Sockets, []string{first, second}) || got.Version != "1.30.0" {
		t.Errorf("containerd: %+v", got)
	}
}

// TestAnswersAreCut: what a runtime says is bounded and valid, whatever it says.
func TestAnswersAreCut(t *testing.T) {
	long := strings.Repeat("ä", 1000)
	m := (&inspected{Name: "/" + long}).meta()
	if len(m.Name) > maxText || !strings.HasPrefix(long, m.Name) || m.Name == "" {
		t.Errorf("%d bytes", len(m.Name))
	}
	for text, want := range map[string]string{"a\xffb": "a?b", "": "", "plain": "plain"} {
		if got := clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestParseContainer reads an answer put together by hand.
func TestParseContainer(t *testing.T) {
	text := func(message []byte, field protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(message, field, protowire.BytesType), value)
	}
	label := func(key, value string) string { return string(text(text(nil, 1, key), 2, value)) }
	inner := text(text(nil, 1, "web"), 2, label("io.kubernetes.pod.name", "web-0"))
	inner = text(text(inner, 3, "busybox:1"), 2, label("nginx", `{"json": true}`))
	inner = protowire.AppendVarint(protowire.AppendTag(inner, 15, protowire.VarintType), 7)
	m, err := parseContainer(text(nil, 1, string(inner)))
	if err != nil || m.Pod != "web-0" || m.Image != "busybox:1" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := parseContainer(inner[:len(inner)-1]); err == nil {
		t.Error("a truncated answer was accepted")
	}
}

// FuzzAnswers: any answer of any runtime gives bounded values or an error.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"Name":"/db","Config":{"Image":"busybox","Labels":{"io.kubernetes.pod.name":"db-0","json":"{\"a\":1}"}}}`))
	f.Add(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\x1a\x01a"))
	for _, answer := range []proto.Message{
		&cri.ContainerStatusResponse{Status: &cri.ContainerStatus{
			Metadata: &cri.ContainerMetadata{Name: "nginx"}, Image: &cri.ImageSpec{Image: "nginx:1", UserSpecifiedImage: "nginx"},
			Labels: map[string]string{"io.kubernetes.pod.name": "web-0", "io.kubernetes.container.name": "ngin\u00e4"},
		}},
		&cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Metadata: &cri.PodSandboxMetadata{Namespace: "shop", Name: "web-0", Uid: "1"}}},
	} {
		data, err := proto.Marshal(answer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
		d := &docker{http: http.Client{Transport: handlerTransport{l}}}
		docker, _ := d.inspect(t.Context(), Ref{ID: ID{Name: "x"}})
		native, _ := parseContainer(data)
		var s cri.ContainerStatusResponse
		kube := Meta{}
		if proto.Unmarshal(data, &s) == nil {
			kube = metaOfStatus(s.GetStatus())
		}
		var p cri.PodSandboxStatusResponse
		pod := Meta{}
		if proto.Unmarshal(data, &p) == nil {
			pod = metaOfSandbox(p.GetStatus())
		}
		for _, m := range []Meta{docker, native, kube, pod} {
			for _, text := range []string{m.Name, m.Namespace, m.Pod, m.PodUID, m.Image} {
				if len(text) > maxText || clean(text) != text {
					t.Errorf("%q from %q", text, data)
				}
			}
		}
	})
}

// handlerTransport calls a handler without a network between.
type handlerTransport struct{ handler http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

package container

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// newConn returns a gRPC connection to a unix socket, which is made when it is
// first needed.
func newConn(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) { return dial(ctx, path) }),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		// A runtime that is being restarted is back within a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}))
}

// crio speaks the Kubernetes container runtime interface, version 1.
type crio struct {
	conn *grpc.ClientConn
	api  cri.RuntimeServiceClient
}

func newCRI(path string) (*crio, error) {
	conn, err := newConn(path)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return &crio{conn: conn, api: cri.NewRuntimeServiceClient(conn)}, nil
}

// ping implements client.
func (c *crio) ping(ctx context.Context) (version string, runtime Runtime, err error) {
	answer, err := c.api.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return "", CRIO, fmt.Errorf("ask CRI version: %w", err)
	}
	return clean(answer.GetRuntimeVersion()), CRIO, nil
}

// inspect implements client. An id is a container's or a pod sandbox's; the
// interface keeps them apart and the cgroup does not.
func (c *crio) inspect(ctx context.Context, ref Ref) (Meta, error) {
	if ref.ID.Namespace != "" {
		return Meta{}, errNotFound // CRI has only ids that were drawn
	}
	answer, err := c.api.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: ref.ID.Name})
	if status.Code(err) == codes.NotFound {
		return c.sandbox(ctx, ref.ID.Name)
	}
	if err != nil {
		return Meta{}, fmt.Errorf("ask CRI status of container: %w", err)
	}
	m := metaOfStatus(answer.GetStatus())
	if m.Pod == "" {
		return c.addPod(ctx, m, ref.ID.Name)
	}
	return m, nil
}

// close implements client.
func (c *crio) close() { _ = c.conn.Close() }

func (c *crio) sandbox(ctx context.Context, id string) (Meta, error) {
	answer, err := c.api.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if status.Code(err) == codes.NotFound {
		return Meta{}, errNotFound
	}
	if err != nil {
		return Meta{}, fmt.Errorf("ask CRI status of pod sandbox: %w", err)
	}
	return metaOfSandbox(answer.GetStatus()), nil
}

// addPod asks for the sandbox of a container without a kubelet's labels, as crictl
// makes them. Without an answer the container keeps what it has.
func (c *crio) addPod(ctx context.Context, m Meta, id string) (Meta, error) {
	list, err := c.api.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: id}})
	if err != nil || len(list.GetContainers()) != 1 {
		return m, nil //nolint:nilerr // the pod is an addition
	}
	pod, err := c.sandbox(ctx, list.GetContainers()[0].GetPodSandboxId())
	if err != nil {
		return m, nil //nolint:nilerr // as above
	}
	m.Namespace, m.Pod, m.PodUID = pod.Namespace, pod.Pod, pod.PodUID
	return m, nil
}

func metaOfStatus(s *cri.ContainerStatus) Meta {
	m := Meta{Name: clean(s.GetMetadata().GetName()), Image: clean(s.GetImage().GetImage())}
	if user := clean(s.GetImage().GetUserSpecifiedImage()); user != "" {
		m.Image = user
	}
	m.applyLabels(s.GetLabels())
	return m
}

func metaOfSandbox(s *cri.PodSandboxStatus) Meta {
	pod := s.GetMetadata()
	m := Meta{Namespace: clean(pod.GetNamespace()), Pod: clean(pod.GetName()), PodUID: clean(pod.GetUid())}
	m.applyLabels(s.GetLabels())
	m.Name, m.Sandbox = sandboxName, true
	return m
}

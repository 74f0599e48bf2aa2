package container_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// containerd is a private containerd with its CRI.
type containerd struct {
	*testenv.Runtimes
	socket string
	kill   func(syscall.Signal)
	api    cri.RuntimeServiceClient
	uid    string // of the pods it is given
}

func startContainerd(t *testing.T, r *testenv.Runtimes) *containerd {
	t.Helper()
	c := &containerd{Runtimes: r, socket: r.Path("containerd.sock"), uid: podUID()}
	// oom_score_adj and its like need CAP_SYS_RESOURCE, which a test may lack; the
	// native snapshotter needs no overlayfs.
	r.Write(t, "containerd.toml", `version = 2
root = "DIR/root"
state = "DIR/state"
[grpc]
  address = "DIR/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "`+imageName+`"
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "DIR/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
`)
	conn, err := grpc.NewClient("unix://"+c.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true))) // it may just have been restarted
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c.api = cri.NewRuntimeServiceClient(conn)
	c.start(t)
	t.Cleanup(func() { c.cleanUp(t) })
	if err := os.WriteFile(r.Path("image.tar"), image(t, r.Busybox(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"k8s.io", "demo"} {
		c.ctr(t, namespace, "images", "import", "--snapshotter", "native", r.Path("image.tar"))
	}
	return c
}

// start starts containerd, again if it was killed.
func (c *containerd) start(t *testing.T) {
	t.Helper()
	_ = os.RemoveAll(c.socket) // as a leftover of the one before
	c.kill = c.Daemon(t, "containerd", "--config", c.Path("containerd.toml"))
	testenv.Eventually(t, "containerd answers", c.answers)
}

// answers reports whether it is up and has found its containers again.
func (c *containerd) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := c.api.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	return err == nil
}

func (c *containerd) ctr(t *testing.T, namespace string, args ...string) string {
	t.Helper()
	return c.Run(t, "ctr", append([]string{"--address", c.socket, "--namespace", namespace}, args...)...)
}

// cleanUp ends everything that runs, whatever became of the test.
func (c *containerd) cleanUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if !c.answers() {
		c.start(t)
	}
	pods, err := c.api.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Error(err)
	}
	for _, pod := range pods.GetItems() { // with all their containers
		if _, err := c.api.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.GetId()}); err != nil {
			t.Error(err)
		}
		if _, err := c.api.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.GetId()}); err != nil {
			t.Error(err)
		}
	}
	for task := range strings.FieldsSeq(c.ctr(t, "demo", "tasks", "list", "-q")) {
		c.ctr(t, "demo", "tasks", "delete", "--force", task)
	}
	c.kill(syscall.SIGTERM)
	testenv.RemoveCgroups(t, filepath.Base(c.cgroup()), "demo", "kubepods")
}

func podUID() string {
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(time.Now().String())))
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:32]}, "-")
}

// cgroup is the parent of the pods' containers.
func (c *containerd) cgroup() string { return "/kubepods/pod" + c.uid }

// pod describes a pod as a kubelet does.
func (c *containerd) pod(t *testing.T, namespace, name string) *cri.PodSandboxConfig {
	t.Helper()
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Namespace: namespace, Name: name, Uid: c.uid},
		Labels:       map[string]string{"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": name, "io.kubernetes.pod.uid": c.uid},
		LogDirectory: c.Path("log"),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    c.cgroup(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: hostNetwork()},
		},
	}
}

func hostNetwork() *cri.NamespaceOption {
	return &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}
}

func (c *containerd) runPod(t *testing.T, pod *cri.PodSandboxConfig) (id string) {
	t.Helper()
	answer, err := c.api.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetPodSandboxId()
}

// runContainer starts a container that sleeps for so many seconds; with labels if
// they are not nil.
func (c *containerd) runContainer(t *testing.T, pod *cri.PodSandboxConfig, podID, name, seconds string, labels map[string]string) (id string) {
	t.Helper()
	answer, err := c.api.CreateContainer(t.Context(), &cri.CreateContainerRequest{
		PodSandboxId: podID, SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name}, Labels: labels, Image: &cri.ImageSpec{Image: imageName},
			Command: []string{"/bin/sleep", seconds}, LogPath: name + ".log",
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: hostNetwork()}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.api.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: answer.GetContainerId()}); err != nil {
		t.Fatal(err)
	}
	return answer.GetContainerId()
}

// Package deploy holds no code: its tests hold the manifests to each other and to the
// Kubernetes API.
package deploy

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

var update = flag.Bool("update", false, "write the plain manifest anew")

// plain are the values of which the plain manifest is made.
const plain = "{createNamespace: true, helmMetadata: false}"

const manifest = "kubernetes/sonde.yaml"

// render renders the chart with values, and returns the error's text if it refuses.
func render(t *testing.T, values string) (objects, refusal string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "kube"), "render", "helm/sonde", "sonde")
	cmd.Stdin = strings.NewReader(values)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", errs.String()
	}
	return out.String(), ""
}

// decode returns the objects of a stream by kind.
func decode(t *testing.T, stream string) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for decoder := yaml.NewDecoder(strings.NewReader(stream)); ; {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := object["kind"].(string); kind != "" {
			all[kind] = object
		}
	}
}

// TestPlainManifest: the plain manifest is what the chart makes, but for what says
// that Helm made it.
func TestPlainManifest(t *testing.T) {
	objects, refusal := render(t, plain)
	if refusal != "" {
		t.Fatal(refusal)
	}
	text := "# The sensor on every node: kubectl apply -f sonde.yaml\n# Generated from the chart in deploy/helm/sonde: go test ./deploy -update writes it.\n" + strings.TrimPrefix(objects, "---\n")
	if *update {
		if err := os.WriteFile(manifest, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(there), text); diff != "" {
		t.Errorf("%s is stale: go test ./deploy -update\n%s", manifest, diff)
	}
	chart, refusal := render(t, "{createNamespace: true}")
	if refusal != "" {
		t.Fatal(refusal)
	}
	if diff := cmp.Diff(decode(t, string(there)), withoutHelm(decode(t, chart)).(map[string]map[string]any)); diff != "" {
		t.Error(diff)
	}
}

// withoutHelm takes the labels and the variable out that only the chart sets.
func withoutHelm(value any) any {
	switch v := value.(type) {
	case map[string]map[string]any:
		for _, object := range v {
			withoutHelm(object)
		}
	case map[string]any:
		delete(v, "app.kubernetes.io/managed-by")
		delete(v, "helm.sh/chart")
		for key, inner := range v {
			v[key] = withoutHelm(inner)
		}
	case []any:
		kept := v[:0]
		for _, inner := range v {
			if m, ok := inner.(map[string]any); !ok || m["name"] != "HELM_CHART" {
				kept = append(kept, withoutHelm(inner))
			}
		}
		return kept
	}
	return value
}

// TestKubernetesTypes holds the manifest, and the chart with everything switched on,
// to the types of the API; a field that is none is found.
func TestKubernetesTypes(t *testing.T) {
	everything, refusal := render(t, `
createNamespace: true
hostNetwork: false
networkPolicy: {enabled: true, from: [{namespaceSelector: {matchLabels: {name: monitoring}}}], egress: [{ports: [{port: 443}]}]}
runtimeStatistics: true
config: {log: {level: debug}, collectors: {workloads: true}}
args: [--no-collector.drops]
podAnnotations: {a: b}
priorityClassName: system-node-critical
image: {tag: v1, pullSecrets: [{name: s}]}
`)
	if refusal != "" {
		t.Fatal(refusal)
	}
	dir := t.TempDir()
	check := func(name, text string) error {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(testenv.Tool(t, "kube"), "check", path).CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	there, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(check("plain.yaml", string(there)), check("everything.yaml", everything)); err != nil {
		t.Error(err)
	}
	for name, broken := range map[string]string{
		"unknown field": strings.Replace(everything, "hostPID:", "hostPid:", 1),
		"wrong type":    strings.Replace(everything, "clusterIP: None", "clusterIP: {a: b}", 1),
		"unknown kind":  strings.Replace(everything, "kind: DaemonSet", "kind: DemonSet", 1),
	} {
		if broken == everything {
			t.Errorf("%s: nothing was broken", name)
		}
		if err := check("broken.yaml", broken); err == nil {
			t.Errorf("%s was not found", name)
		}
	}
	if _, refusal := render(t, "{networkPolicy: {enabled: true}}"); !strings.Contains(refusal, "no effect with hostNetwork") {
		t.Errorf("a policy without effect: %q", refusal)
	}
}

// TestPrometheusOperator: the chart brings the objects that were made for the
// operator, as they are.
func TestPrometheusOperator(t *testing.T) {
	objects, refusal := render(t, "{serviceMonitor: true, podMonitor: true, prometheusRule: true}")
	if refusal != "" {
		t.Fatal(refusal)
	}
	got := decode(t, objects)
	for _, kind := range []string{"ServiceMonitor", "PodMonitor", "PrometheusRule"} {
		text, err := os.ReadFile(filepath.Join("prometheus-operator", strings.ToLower(kind)+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decode(t, string(text))[kind], got[kind]); diff != "" || got[kind] == nil {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

// TestLeastPrivileges: the sensor has the capabilities of docs/privileges.md and no
// other privilege.
func TestLeastPrivileges(t *testing.T) {
	page, err := os.ReadFile("../docs/privileges.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, statistics := range []string{"false", "true"} {
		objects, refusal := render(t, "{runtimeStatistics: "+statistics+"}")
		if refusal != "" {
			t.Fatal(refusal)
		}
		var set struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							SecurityContext struct {
								Privileged   bool
								Capabilities struct{ Add, Drop []string }
							} `yaml:"securityContext"`
						}
					}
				}
			}
		}
		text, err := yaml.Marshal(decode(t, objects)["DaemonSet"])
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &set); err != nil {
			t.Fatal(err)
		}
		s := set.Spec.Template.Spec.Containers[0].SecurityContext
		if len(s.Capabilities.Add) < 2 || len(s.Capabilities.Drop) != 1 || s.Privileged {
			t.Errorf("%+v", s)
		}
		for _, c := range s.Capabilities.Add {
			if !bytes.Contains(page, []byte("\n| `CAP_"+c+"` |")) || c == "SYS_ADMIN" && statistics == "false" {
				t.Errorf("capability %s with runtimeStatistics: %s", c, statistics)
			}
		}
	}
}

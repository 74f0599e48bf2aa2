package bundle

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// selector finds what belongs to the sensor, as the manifest and the chart label it.
const selector = "--selector=app.kubernetes.io/name=sonde"

// Kubernetes is what kubectl is asked: the sensor's objects, the nodes, logs, and of
// secrets no more than names, keys and sizes.
func Kubernetes(namespace string) []Item {
	kubectl := func(args ...string) collector {
		return command("kubectl", append([]string{"--namespace=" + namespace, "--request-timeout=8s"}, args...)...)
	}
	get := func(kind string) collector { return kubectl("get", kind, selector, "--output=yaml") }
	inSensor := func(args ...string) collector {
		return kubectl(append([]string{"exec", "daemonset/sonde", "--", "/usr/bin/sonde"}, args...)...)
	}
	var all []Item
	for _, kind := range []string{
		"daemonsets", "pods", "serviceaccounts", "configmaps", "services", "networkpolicies",
		"roles", "rolebindings", "clusterroles", "clusterrolebindings",
	} {
		all = append(all, Item{Name: "kubernetes/" + kind + ".yaml", Collect: get(kind)})
	}
	return append(all,
		Item{Name: "kubernetes/nodes.yaml", Collect: kubectl("get", "nodes", "--output=yaml")},
		Item{Name: "kubernetes/version.txt", Collect: kubectl("version")},
		Item{Name: "kubernetes/events.txt", Collect: kubectl("get", "events", "--sort-by=.lastTimestamp")},
		Item{Name: "kubernetes/describe.txt", Collect: kubectl("describe", "pods", selector)},
		Item{Name: "kubernetes/secrets.txt", Collect: secrets(kubectl("get", "secrets", "--output=json"))},
		Item{Name: "kubernetes/logs.txt", Collect: kubectl("logs", selector, "--all-containers", "--prefix", "--tail=5000", "--max-log-requests=50")},
		Item{Name: "kubernetes/previous-logs.txt", Collect: kubectl("logs", selector, "--all-containers", "--prefix", "--tail=5000", "--max-log-requests=50", "--previous")},
		Item{Name: "kubernetes/version-of-sensor.json", Collect: inSensor("version", "--json")},
		Item{Name: "kubernetes/status.json", Collect: inSensor("status", "--json")},
		Item{Name: "kubernetes/statistics.json", Collect: inSensor("get-statistics", "--json")},
		Item{Name: "kubernetes/containers.json", Collect: inSensor("containers", "--json")},
	)
}

// secrets tells of each secret its name, type, and the sizes of its values.
func secrets(get collector) collector {
	return func(ctx context.Context, w io.Writer) error {
		var answer bytes.Buffer
		if err := get(ctx, &answer); err != nil {
			return fmt.Errorf("%w: %s", err, firstLine(answer.String()))
		}
		var list struct {
			Items []struct {
				Metadata struct{ Name string }
				Type     string
				Data     map[string]string
			}
		}
		if err := json.Unmarshal(answer.Bytes(), &list); err != nil {
			return fmt.Errorf("decode secrets: %w", err)
		}
		for _, s := range list.Items {
			var keys []string
			for key, value := range s.Data {
				keys = append(keys, fmt.Sprintf("%s (%d bytes)", key, base64.StdEncoding.DecodedLen(len(value))-strings.Count(value, "=")))
			}
			slices.Sort(keys)
			if _, err := fmt.Fprintln(w, s.Metadata.Name, s.Type, strings.Join(keys, ", ")); err != nil {
				return err
			}
		}
		return nil
	}
}

// firstLine is where a program says what is wrong; the rest may be what it was asked
// for.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

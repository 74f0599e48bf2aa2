package container

import (
	"strings"
	"time"
	"unicode/utf8"
)

// State says how far the sensor has come with a container.
type State uint8

// The states.
const (
	Unheard  State = iota // no process of such a container has been seen
	Pending               // its runtime is being asked
	Named                 // its runtime has answered
	Nameless              // no runtime that answers knows it; they are asked again from time to time
	Failed                // the runtime that should know it does not answer; it is asked again

	states = int(Failed) + 1
)

var stateNames = [states]string{"unheard", "pending", "complete", "not_found", "failed"}

// String returns the state as JSON spells it.
func (s State) String() string { return stateNames[s] }

// Meta is what is known of a container. It is a value: keep it as long as you
// like.
type Meta struct {
	ID      ID
	Runtime Runtime
	Cgroup  string // path of its cgroup, as far as it is visible

	// What the runtime says; empty until it has answered.
	Namespace string // of Kubernetes
	Pod       string
	PodUID    string
	Name      string // of the container in its pod, else the one its runtime knows it by
	Image     string // as it was asked for
	Sandbox   bool   // the container that holds a pod's namespaces

	Seen  time.Time // when the sensor learnt of it
	Ended time.Time // when its cgroup was found to be gone; zero while it lives
	Fault string    // why State is Failed or Nameless
}

// Labels under which a kubelet tells the runtime whose container it is.
const (
	labelNamespace = "io.kubernetes.pod.namespace"
	labelPod       = "io.kubernetes.pod.name"
	labelPodUID    = "io.kubernetes.pod.uid"
	labelContainer = "io.kubernetes.container.name"
)

// sandboxName is the container name of a pod's sandbox, as kubelet's own metrics
// have it.
const sandboxName = "POD"

// applyLabels takes Kubernetes' names from a container's labels.
func (m *Meta) applyLabels(labels map[string]string) {
	take := func(field *string, label string) {
		if value := clean(labels[label]); value != "" {
			*field = value
		}
	}
	take(&m.Namespace, labelNamespace)
	take(&m.Pod, labelPod)
	take(&m.PodUID, labelPodUID)
	take(&m.Name, labelContainer)
}

// maxText bounds every text that a runtime sends, in bytes. Kubernetes' own names
// have at most 253.
const maxText = 256

// clean makes a text from outside fit for labels and JSON: valid UTF-8, bounded,
// and a copy, so that it does not keep the answer it came in.
func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
		if r, size := utf8.DecodeLastRuneInString(text); r == utf8.RuneError && size == 1 {
			text = text[:len(text)-1]
		}
	}
	return strings.Clone(strings.ToValidUTF8(text, "?"))
}

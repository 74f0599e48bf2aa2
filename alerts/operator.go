package alerts

// The objects of the Prometheus operator. Its types are not imported: these are three
// small documents.

type object struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       any      `yaml:"spec"`
}

type metadata struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
}

type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type endpoint struct {
	Port        string    `yaml:"port"`
	Interval    string    `yaml:"interval"`
	Relabelings []relabel `yaml:"relabelings"`
}

type relabel struct {
	SourceLabels []string `yaml:"sourceLabels,omitempty"`
	TargetLabel  string   `yaml:"targetLabel"`
	Replacement  string   `yaml:"replacement,omitempty"`
}

type monitor struct {
	Selector               selector   `yaml:"selector"`
	SampleLimit            int        `yaml:"sampleLimit"`
	ScrapeNativeHistograms bool       `yaml:"scrapeNativeHistograms"`
	Endpoints              []endpoint `yaml:"endpoints,omitempty"`
	PodMetricsEndpoints    []endpoint `yaml:"podMetricsEndpoints,omitempty"`
}

// appLabels are what the sensor's pods and service are found by.
var appLabels = map[string]string{"app.kubernetes.io/name": "sonde"}

func operatorObject(kind string, spec any) object {
	return object{
		APIVersion: "monitoring.coreos.com/v1", Kind: kind, Spec: spec,
		// kube-prometheus selects rules by the first two, and kube-prometheus-stack by the
		// name of its release.
		Metadata: metadata{Name: "sonde", Labels: map[string]string{
			"app.kubernetes.io/name": "sonde", "prometheus": "k8s", "role": "alert-rules", "release": "kube-prometheus-stack",
		}},
	}
}

// scraped is how a target is scraped: the job is the one that the rules select, and an
// instance is known by its node, so that its series go on when its pod is replaced.
func scraped() []endpoint {
	node := []string{"__meta_kubernetes_pod_node_name"}
	return []endpoint{{Port: "metrics", Interval: "15s", Relabelings: []relabel{
		{TargetLabel: "job", Replacement: Job},
		{SourceLabels: node, TargetLabel: "instance"},
		{SourceLabels: node, TargetLabel: "node"},
	}}}
}

// sampleLimit is what a scrape may bring: twice what is alerted on.
const sampleLimit = 2 * ScrapeSamples

// PrometheusRule renders groups for the Prometheus operator.
func PrometheusRule(groups []Group) ([]byte, error) {
	return render(operatorObject("PrometheusRule", asYAML(groups)))
}

// ServiceMonitor renders how the Prometheus operator scrapes the sensors behind a
// service.
func ServiceMonitor() ([]byte, error) {
	return render(operatorObject("ServiceMonitor", monitor{
		Selector: selector{appLabels}, SampleLimit: sampleLimit, ScrapeNativeHistograms: true, Endpoints: scraped(),
	}))
}

// PodMonitor renders how the Prometheus operator scrapes sensors that have no service.
func PodMonitor() ([]byte, error) {
	return render(operatorObject("PodMonitor", monitor{
		Selector: selector{appLabels}, SampleLimit: sampleLimit, ScrapeNativeHistograms: true, PodMetricsEndpoints: scraped(),
	}))
}

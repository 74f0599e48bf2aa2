// Kube renders Sonde's Helm chart with Helm's own engine and holds objects to the
// types of the Kubernetes API: what they do not know, or know otherwise, is an error.
//
//	kube render CHART NAMESPACE <values.yaml   prints the objects as a YAML stream
//	kube check FILE...                         decodes objects strictly
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

func main() {
	err := errors.New("usage: kube render CHART NAMESPACE | kube check FILE...")
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[0] == "render":
		err = render(os.Stdout, os.Stdin, args[1], args[2])
	case len(args) > 1 && args[0] == "check":
		err = check(args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
}

func render(w io.Writer, values io.Reader, path, namespace string) error {
	chart, err := loader.Load(path)
	if err != nil {
		return fmt.Errorf("load chart: %w", err)
	}
	text, err := io.ReadAll(values)
	if err != nil {
		return err
	}
	given, err := chartutil.ReadValues(text)
	if err != nil {
		return fmt.Errorf("read values: %w", err)
	}
	options := chartutil.ReleaseOptions{Name: "sonde", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, nil)
	if err != nil {
		return fmt.Errorf("join values: %w", err)
	}
	rendered, err := engine.Render(chart, all)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		object := strings.TrimSpace(rendered[name])
		if object == "" || !strings.HasSuffix(name, ".yaml") {
			continue
		}
		if _, err := fmt.Fprintf(w, "---\n%s\n", object); err != nil {
			return err
		}
	}
	return nil
}

func check(files []string) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(appsv1.AddToScheme(scheme), corev1.AddToScheme(scheme), networkingv1.AddToScheme(scheme)); err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var faults []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for i, object := range bytes.Split(text, []byte("\n---\n")) {
			if _, _, err := decoder.Decode(object, nil, nil); err != nil {
				faults = append(faults, fmt.Errorf("%s, object %d: %w", file, i+1, err))
			}
		}
	}
	return errors.Join(faults...)
}

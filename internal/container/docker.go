package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxAnswer bounds what is read of one answer, in bytes. An inspected container
// with hundreds of mounts and labels has some 100 KiB.
const maxAnswer = 4 << 20

// docker speaks the HTTP API that Docker defined and Podman serves too.
type docker struct {
	http http.Client
}

func newDocker(path string) *docker {
	return &docker{http: http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
		DisableCompression: true,
		MaxIdleConns:       1,
		IdleConnTimeout:    time.Minute,
	}}}
}

// ping implements client. Podman is often found under Docker's name.
func (d *docker) ping(ctx context.Context) (version string, runtime Runtime, err error) {
	var answer struct {
		Version    string
		Components []struct{ Name string }
	}
	if err := d.get(ctx, "/version", &answer); err != nil {
		return "", Docker, err
	}
	runtime = Docker
	for _, c := range answer.Components {
		if strings.HasPrefix(c.Name, "Podman") {
			runtime = Podman
		}
	}
	return clean(answer.Version), runtime, nil
}

// inspect implements client.
func (d *docker) inspect(ctx context.Context, ref Ref) (Meta, error) {
	if ref.ID.Namespace != "" {
		return Meta{}, errNotFound // a containerd of its own made it
	}
	var answer inspected
	if err := d.get(ctx, "/containers/"+ref.ID.Name+"/json", &answer); err != nil {
		return Meta{}, err
	}
	return answer.meta(), nil
}

// close implements client.
func (d *docker) close() { d.http.CloseIdleConnections() }

// inspected is what is needed of an inspected container.
type inspected struct {
	Name   string
	Config struct {
		Image  string
		Labels map[string]string
	}
}

func (i *inspected) meta() Meta {
	m := Meta{Name: clean(strings.TrimPrefix(i.Name, "/")), Image: clean(i.Config.Image)}
	m.applyLabels(i.Config.Labels)
	m.Sandbox = i.Config.Labels["io.kubernetes.docker.type"] == "podsandbox"
	return m
}

// get asks for path and decodes the answer. The version of the API is left out of
// the path: the server then answers in its own, and what is read of it has been
// the same in all of them.
func (d *docker) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	response, err := d.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body := io.LimitReader(response.Body, maxAnswer)
	if response.StatusCode != http.StatusOK {
		return statusError(path, response.StatusCode, body)
	}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("decode answer to %s: %w", path, err)
	}
	return nil
}

// statusError turns a refusal into the error that names it.
func statusError(path string, code int, body io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(body, maxText)) // the status says enough
	switch code {
	case http.StatusNotFound:
		return errNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("get %s: %w: %s", path, fs.ErrPermission, clean(string(text)))
	}
	return fmt.Errorf("get %s: status %d: %s", path, code, clean(string(text)))
}

package container

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// containerd asks containerd: through CRI about Kubernetes' containers, and
// through its own API about those that CRI does not have (ctr, nerdctl, or a
// containerd whose CRI is switched off).
//
// Of its own API two calls with four fields are needed, so they are written and
// read here. The module with the generated code would bring ttrpc and logrus.
type containerd struct {
	*crio
	noCRI atomic.Bool // it said so when it was last pinged
}

func newContainerd(path string) (*containerd, error) {
	c, err := newCRI(path)
	if err != nil {
		return nil, err
	}
	return &containerd{crio: c}, nil
}

// ping implements client.
func (c *containerd) ping(ctx context.Context) (version string, runtime Runtime, err error) {
	version, _, err = c.crio.ping(ctx)
	c.noCRI.Store(status.Code(err) == codes.Unimplemented)
	if c.noCRI.Load() {
		_, err = c.namespaces(ctx)
	}
	return version, Containerd, err
}

// inspect implements client.
func (c *containerd) inspect(ctx context.Context, ref Ref) (Meta, error) {
	if ref.ID.Namespace != "" {
		return c.container(ctx, ref.ID.Namespace, ref.ID.Name)
	}
	if !c.noCRI.Load() {
		if m, err := c.crio.inspect(ctx, ref); !errors.Is(err, errNotFound) {
			return m, err
		}
	}
	all, err := c.namespaces(ctx)
	if err != nil {
		return Meta{}, err
	}
	for _, namespace := range all {
		m, err := c.container(ctx, namespace, ref.ID.Name)
		if !errors.Is(err, errNotFound) {
			return m, err
		}
	}
	return Meta{}, errNotFound
}

// maxNamespaces bounds how many of containerd's namespaces are searched.
const maxNamespaces = 64

// namespaces lists containerd's namespaces.
func (c *containerd) namespaces(ctx context.Context) ([]string, error) {
	answer, err := c.call(ctx, "/containerd.services.namespaces.v1.Namespaces/List", nil)
	if err != nil {
		return nil, fmt.Errorf("list namespaces of containerd: %w", err)
	}
	var all []string
	err = eachField(answer, func(field protowire.Number, value []byte) error {
		if field != 1 || len(all) == maxNamespaces { // repeated Namespace namespaces
			return nil
		}
		return eachField(value, func(field protowire.Number, value []byte) error {
			if field == 1 { // string name
				all = append(all, string(value))
			}
			return nil
		})
	})
	return all, err
}

// container asks for a container in one namespace.
func (c *containerd) container(ctx context.Context, namespace, name string) (Meta, error) {
	request := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name) // string id
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	answer, err := c.call(ctx, "/containerd.services.containers.v1.Containers/Get", request)
	if status.Code(err) == codes.NotFound {
		return Meta{}, errNotFound
	}
	if err != nil {
		return Meta{}, fmt.Errorf("ask containerd about container: %w", err)
	}
	m, err := parseContainer(answer)
	if m.Name == "" {
		m.Name = clean(name)
	}
	return m, err
}

// call sends a message that is already encoded and returns the answer as it came.
func (c *containerd) call(ctx context.Context, method string, request []byte) (answer []byte, err error) {
	err = c.conn.Invoke(ctx, method, &request, &answer, grpc.ForceCodec(verbatim{}))
	return answer, err
}

// parseContainer reads a GetContainerResponse.
func parseContainer(answer []byte) (m Meta, err error) {
	labels := map[string]string{}
	err = eachField(answer, func(field protowire.Number, value []byte) error {
		if field != 1 { // Container container
			return nil
		}
		return eachField(value, func(field protowire.Number, value []byte) error {
			switch field {
			case 2: // map<string, string> labels
				return parseLabel(value, labels)
			case 3: // string image
				m.Image = clean(string(value))
			}
			return nil
		})
	})
	m.Name = clean(labels["nerdctl/name"])
	m.applyLabels(labels)
	if labels["io.cri-containerd.kind"] == "sandbox" {
		m.Name, m.Sandbox = sandboxName, true
	}
	return m, err
}

// maxLabels bounds the labels that are looked at.
const maxLabels = 1024

func parseLabel(entry []byte, labels map[string]string) error {
	var key, text string
	err := eachField(entry, func(field protowire.Number, value []byte) error {
		switch field {
		case 1:
			key = string(value)
		case 2:
			text = string(value)
		}
		return nil
	})
	if len(labels) < maxLabels {
		labels[key] = text
	}
	return err
}

// eachField calls visit for every length-delimited field of a message: strings,
// bytes and messages. Others are skipped.
func eachField(message []byte, visit func(field protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("decode answer of containerd: %w", protowire.ParseError(n))
		}
		message = message[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
				return fmt.Errorf("decode answer of containerd: %w", protowire.ParseError(n))
			}
			message = message[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return fmt.Errorf("decode answer of containerd: %w", protowire.ParseError(n))
		}
		message = message[n:]
		if err := visit(field, value); err != nil {
			return err
		}
	}
	return nil
}

// verbatim is a gRPC codec for messages that are bytes already.
type verbatim struct{}

func (verbatim) Name() string { return "proto" }

func (verbatim) Marshal(v any) ([]byte, error) {
	if b, ok := v.(*[]byte); ok {
		return *b, nil
	}
	return nil, fmt.Errorf("encode %T: not bytes", v)
}

func (verbatim) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("decode %T: not bytes", v)
	}
	*b = append([]byte(nil), data...)
	return nil
}

package tetragon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// GetEvents streams events until the client leaves or the sensor stops. The stream
// is a session: it is listed, and can be deleted, like any other.
func (s *service) GetEvents(r *api.GetEventsRequest, out grpc.ServerStreamingServer[api.GetEventsResponse]) error {
	choice, points, err := choose(r, s.from.Machine)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "get events: %v", err)
	}
	to := &client{
		Choice: choice, out: out, encoder: sink.NewEncoder(s.from.Machine, choice),
		told: make(chan struct{}), gone: make(chan struct{}), closed: make(chan struct{}),
	}
	name, err := s.from.Sessions.CreateNext(streamKind, points, to)
	if err != nil {
		return status.Errorf(codes.ResourceExhausted, "get events: %v", err)
	}
	s.log.Info("stream begins", "session", name)
	headerErr := out.SendHeader(nil) // who waits for it knows that nothing is missed from here on
	close(to.told)
	if headerErr != nil {
		return errors.Join(headerErr, s.end(out.Context(), name))
	}
	select {
	case <-out.Context().Done():
	case <-to.gone:
	case <-s.stopping.Done():
	case <-to.closed:
		return status.Errorf(codes.Aborted, "session %s has ended", name)
	}
	return s.end(out.Context(), name)
}

// streamKind names the sessions of streams and is the label "sink".
const streamKind = "grpc"

// end deletes the session of a stream. A client that is still there gets what waits.
func (s *service) end(client context.Context, name string) error {
	ctx, done := context.WithTimeout(client, drainTime/2)
	defer done()
	ledger, err := s.from.Sessions.Delete(ctx, name)
	for _, k := range ledger.Sinks {
		s.log.Info("stream ended", "session", name, "delivered", k.Delivered, "dropped", k.Lost())
	}
	switch {
	case client.Err() != nil:
		return status.FromContextError(client.Err()).Err()
	case err != nil && !errors.Is(err, stream.ErrSinkHangs) && !errors.Is(err, stream.ErrNoSession):
		return status.Errorf(codes.Internal, "%v", err)
	default:
		return status.Error(codes.Unavailable, "the sensor stops")
	}
}

// client is the sink of one stream.
type client struct {
	*sink.Choice

	out     grpc.ServerStreamingServer[api.GetEventsResponse]
	encoder *sink.Encoder
	failed  bool
	lost    uint64        // events of which the client is to be told that they are missing
	told    chan struct{} // closed when the client knows that the stream has begun
	gone    chan struct{} // closed when nothing can be sent any more
	closed  chan struct{} // closed with the session
}

// RateLimit implements stream.Chooser: the API has none.
func (c *client) RateLimit() uint64 { return 0 }

// Deliver sends what the client has chosen.
func (c *client) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	<-c.told
	if c.lost > 0 && !c.failed {
		c.send(&api.GetEventsResponse{
			Event:    &api.GetEventsResponse_RateLimitInfo{RateLimitInfo: &api.RateLimitInfo{NumberOfDroppedProcessEvents: c.lost}},
			NodeName: c.encoder.Node(), Time: timestamppb.Now(),
		})
		c.lost = 0
	}
	for i := range batch {
		if loss, ok := c.tell(&batch[i]); !ok {
			lost(&batch[i], loss)
		}
	}
}

func (c *client) tell(ev *event.Event) (event.Loss, bool) {
	if c.failed {
		return event.LossPeer, false
	}
	// The lines are where it is written once what an event is in Tetragon's terms.
	r := &api.GetEventsResponse{}
	if err := protojson.Unmarshal(c.encoder.Line(ev), r); err != nil {
		return event.LossEncode, false
	}
	return event.LossPeer, c.send(r)
}

// send reports whether the client took it.
func (c *client) send(r *api.GetEventsResponse) bool {
	if err := c.out.Send(r); err != nil {
		c.failed = true
		close(c.gone)
	}
	return !c.failed
}

// Lost implements stream.Teller.
func (c *client) Lost(n uint64) { c.lost += n }

// Close tells the stream that its session is no more.
func (c *client) Close() error {
	close(c.closed)
	return nil
}

// choose reads what a client asks for, and of which points that is. Points that occur all
// the time are not for streams, and tracepoints only for who names their kind: Tetragon
// tells of none by itself.
func choose(r *api.GetEventsRequest, m sink.Machine) (c *sink.Choice, points []stream.Point, err error) {
	if r.AggregationOptions != nil {
		return nil, nil, errors.New("aggregation_options: events are not aggregated here; the sensor's metrics are")
	}
	if c, err = sink.NewChoice(m, r.AllowList, r.DenyList, r.FieldFilters); err != nil {
		return nil, nil, err
	}
	named := c.Kinds()
	for _, p := range stream.AllPoints(stream.Filter{}) {
		kind := sink.KindOf(p.Point)
		if slices.Contains(named, kind) || named == nil && kind != api.EventType_PROCESS_TRACEPOINT {
			p.Fields = event.FieldCredentials | event.FieldCapabilities | event.FieldNamespaces
			points = append(points, p)
		}
	}
	if len(points) == 0 {
		return nil, nil, fmt.Errorf("allow_list: event_set %v: this sensor has none of those", named)
	}
	return c, points, nil
}

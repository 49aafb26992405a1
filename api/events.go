package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// listEvents is one timeline of what happened to an instance and of what its operations did, oldest first. A client that follows it asks again
// after the last entry that it has.
func (s *server) listEvents(ctx context.Context, c *call) (any, error) {
	id := c.params.get("id")
	if err := s.ownHistory(ctx, c, id); err != nil {
		return nil, err
	}
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	after, err := parseMark(unquote(p.marker))
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Store.Timeline(ctx, id, after, p.limit+1)
	if err != nil {
		return nil, fmt.Errorf("read the timeline: %w", err)
	}
	out := wire.InstanceEventList{Events: make([]wire.InstanceEvent, 0, len(found))}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(formatMark(found[p.limit-1].Mark()))
	}
	for n := range found {
		out.Events = append(out.Events, viewEvent(&found[n]))
	}
	return &out, nil
}

// ownHistory checks that an instance's history is the caller's to see. The instance itself may be gone.
func (s *server) ownHistory(ctx context.Context, c *call, id string) error {
	last, err := s.cfg.Store.Operations(ctx, id, 1)
	if err != nil {
		return fmt.Errorf("read the last operation: %w", err)
	}
	if len(last) == 0 || (last[0].ProjectID != c.project && !c.admin) {
		if err := s.loadInstance(ctx, c, &Operation{}, id); err != nil {
			return err
		}
		return s.enforce(c, "instance:show", c.instance.ProjectID)
	}
	return s.enforce(c, "instance:show", last[0].ProjectID)
}

func viewEvent(e *trove.TimelineEntry) wire.InstanceEvent {
	out := wire.InstanceEvent{
		ID: formatMark(e.Mark()), At: e.At, Kind: e.Kind, Sentence: e.Sentence, Details: e.Details, Count: e.Count,
		OperationID: e.OperationID, Operation: e.OperationKind, Step: e.Step,
	}
	if e.Count > 1 {
		out.First = &e.First
	}
	return out
}

// formatMark writes a place in a timeline: microseconds, number, and the operation's id for a line of one.
func formatMark(m trove.TimelineMark) string {
	text := strconv.FormatInt(m.At.UnixMicro(), 10) + "-" + strconv.FormatInt(m.Seq, 10)
	if m.OperationID != "" {
		text += "-" + m.OperationID
	}
	return text
}

func parseMark(text string) (trove.TimelineMark, error) {
	if text == "" {
		return trove.TimelineMark{}, nil
	}
	at, rest, _ := strings.Cut(text, "-")
	seq, op, _ := strings.Cut(rest, "-")
	us, err1 := strconv.ParseInt(at, 10, 64)
	n, err2 := strconv.ParseInt(seq, 10, 64)
	if err1 != nil || err2 != nil || us <= 0 || n < 0 || (op != "" && !trove.ValidID(op)) {
		return trove.TimelineMark{}, bad("The marker %q is not the id of an event.", text)
	}
	return trove.TimelineMark{At: time.UnixMicro(us).UTC(), OperationID: op, Seq: n}, nil
}

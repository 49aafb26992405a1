package api

import (
	"context"
	"fmt"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// maxWait is the longest a long poll may last.
const maxWait = time.Minute

// shownOperations is how many operations of an instance are listed, newest first.
const shownOperations = 50

func viewOperation(o *trove.Operation) wire.Operation {
	return wire.Operation{
		ID: o.ID, Kind: o.Kind, InstanceID: o.Target, RequestID: o.RequestID, State: string(o.State), Undoing: o.Undoing, Cancelled: o.Cancelled,
		Step: o.Step, StepNumber: o.StepNo, Steps: o.Steps, Attempt: o.Attempt, Sentence: o.Sentence, Percent: o.Percent, Error: o.Error,
		Created: o.Created, Updated: o.Updated, Deadline: o.Deadline, Version: o.Version,
	}
}

// ownOperation checks that an operation is on this instance and is the caller's to see. The instance itself may be gone: how its deletion ended has
// to be told too.
func (s *server) ownOperation(c *call, o *trove.Operation, rule string) error {
	if o.Target != c.params.get("id") || (o.ProjectID != c.project && !c.admin) {
		return trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", c.params.get("operation"))
	}
	return s.enforce(c, rule, o.ProjectID)
}

func (s *server) listOperations(ctx context.Context, c *call) (any, error) {
	id := c.params.get("id")
	all, err := s.cfg.Store.Operations(ctx, id, shownOperations)
	if err != nil {
		return nil, fmt.Errorf("list the operations: %w", err)
	}
	if len(all) == 0 || (all[0].ProjectID != c.project && !c.admin) {
		if err := s.loadInstance(ctx, c, &Operation{}, id); err != nil { // an instance without operations
			return nil, err
		}
	}
	out := wire.OperationList{Operations: make([]wire.Operation, len(all))}
	for n := range all {
		if n == 0 {
			if err := s.enforce(c, "instance:show", all[n].ProjectID); err != nil {
				return nil, err
			}
		}
		out.Operations[n] = viewOperation(&all[n])
	}
	return &out, nil
}

// showOperation is a long poll: with ?wait it answers when the operation has a version above ?since or has ended, when the time has passed, or when the
// server stops: the client asks again, and another server answers.
func (s *server) showOperation(ctx context.Context, c *call) (any, error) {
	wait, since, err := readWait(c)
	if err != nil {
		return nil, err
	}
	news := s.news()
	o, err := s.readOperation(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.ownOperation(c, &o, "instance:show"); err != nil {
		return nil, err
	}
	start := s.cfg.Clock.Now()
	for o.State == trove.OperationOpen && o.Version <= since {
		waited := s.cfg.Clock.Now().Sub(start)
		if waited >= wait || s.draining() {
			break
		}
		if err := s.pause(ctx, news, min(lookAgain(waited), wait-waited)); err != nil {
			return nil, err
		}
		news = s.news()
		if o, err = s.readOperation(ctx, c); err != nil {
			return nil, err
		}
	}
	log, err := s.cfg.Store.OperationLog(ctx, o.ID, 0)
	if err != nil {
		return nil, fmt.Errorf("read the timeline: %w", err)
	}
	out := viewOperation(&o)
	for _, e := range log {
		out.Events = append(out.Events, wire.OperationEvent{Seq: e.Seq, At: e.At, Step: e.Step, Outcome: e.Outcome, Sentence: e.Sentence})
	}
	return &wire.OperationBody{Operation: out}, nil
}

// news returns a channel that is closed when the store has something new, nil if the store does not tell.
func (s *server) news() <-chan struct{} {
	if teller, ok := s.cfg.Store.(interface{ Committed() <-chan struct{} }); ok {
		return teller.Committed()
	}
	return nil
}

// leastPause keeps many long polls from reading with each of many commits.
const leastPause = 2 * time.Millisecond

// draining reports whether the server stops.
func (s *server) draining() bool {
	select {
	case <-s.cfg.Draining:
		return true
	default:
		return false
	}
}

// pause lasts until there is news or the server stops, or d at most.
func (s *server) pause(ctx context.Context, news <-chan struct{}, d time.Duration) error {
	if err := clock.Sleep(ctx, min(leastPause, d)); err != nil {
		return err
	}
	timer := time.NewTimer(max(0, d-leastPause))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-news:
	case <-s.cfg.Draining:
	case <-timer.C:
	}
	return nil
}

// lookAgain is how long a long poll waits between two looks at most; other processes write too. Operations last a fraction of a second or minutes, hardly
// anything between.
func lookAgain(waited time.Duration) time.Duration {
	switch {
	case waited < time.Second:
		return 25 * time.Millisecond
	case waited < 5*time.Second:
		return 50 * time.Millisecond
	}
	return 250 * time.Millisecond
}

func (s *server) readOperation(ctx context.Context, c *call) (trove.Operation, error) {
	id := c.params.get("operation")
	o, err := s.cfg.Store.Operation(ctx, id)
	if trove.IsNotFound(err) {
		return o, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	if err != nil {
		return o, fmt.Errorf("read the operation: %w", err)
	}
	return o, nil
}

func readWait(c *call) (wait time.Duration, since int64, err error) {
	q := c.req.URL.Query()
	if text := q.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return 0, 0, bad("The wait %q is not a duration such as 30s.", text)
		}
	}
	if text := q.Get("since"); text != "" {
		if since, err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, 0, bad("The version %q in since is not a whole number.", text)
		}
	}
	return min(wait, maxWait), since, nil
}

// actOnOperation cancels: the operation stops at the next step and what it made is removed.
func (s *server) actOnOperation(ctx context.Context, c *call) (any, error) {
	o, err := s.readOperation(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.ownOperation(c, &o, "instance:update"); err != nil {
		return nil, err
	}
	if o.Kind == trove.OpDelete {
		return nil, trove.Errorf(trove.KindConflict, "A deletion cannot be cancelled: parts of the instance are gone.")
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.CancelOperation(ctx, o.ID, s.cfg.Clock.Now())
	})
	if trove.IsNotFound(err) {
		return nil, trove.Wrap(trove.KindConflict, err, "Operation %s has ended already.", o.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("cancel the operation: %w", err)
	}
	if s.cfg.Wake != nil {
		s.cfg.Wake(ctx)
	}
	return nil, nil
}

package guestagent

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
)

// responder answers commands. The bus hands it one message after another, so it only looks and hands over.
type responder struct {
	agent   *Agent
	running sync.WaitGroup
}

// handle takes one message of the bus.
func (r *responder) handle(ctx context.Context, m bus.Message) {
	a := r.agent
	req, err := decodeRequest(m.Data)
	if err != nil {
		a.reply(ctx, m, nil, err)
		return
	}
	ctx = withRequest(ctx, req)
	if !skewKnows(req.Command) {
		a.reply(ctx, m, nil, unknownCommand(req.Command))
		return
	}
	switch req.Command {
	case guestapi.CmdPing:
		a.reply(ctx, m, a.whoIsThis(), nil)
	case guestapi.CmdStatus:
		r.status(ctx, m, req)
	default:
		select {
		case a.waiting <- struct{}{}:
		default:
			a.reply(ctx, m, nil, trove.Errorf(trove.KindUnavailable, "The guest has %d commands to answer already.", shortWaiting))
			return
		}
		r.running.Go(func() {
			defer func() { <-a.waiting }()
			r.answer(ctx, m, req)
		})
	}
}

// decodeRequest reads an envelope. Unknown fields are ignored: a newer controller may send them.
func decodeRequest(data []byte) (guestapi.Request, error) {
	var r guestapi.Request
	if err := json.Unmarshal(data, &r); err != nil {
		return r, trove.Wrap(trove.KindBadRequest, err, "The command is not readable.")
	}
	if r.V < 1 {
		return r, trove.Errorf(trove.KindBadRequest, "The command has no version.")
	}
	return r, nil
}

// status answers at once, whatever else is going on; that the end is known now is written afterwards.
func (r *responder) status(ctx context.Context, m bus.Message, req guestapi.Request) {
	a := r.agent
	var args guestapi.StatusArgs
	if err := decodeArgs(req, &args); err != nil {
		a.reply(ctx, m, nil, err)
		return
	}
	status, unknownEnd := a.journal.Status(args.ID)
	a.reply(ctx, m, status, nil)
	if unknownEnd {
		r.running.Go(func() { a.markKnown(ctx, args.ID) })
	}
}

func (a *Agent) markKnown(ctx context.Context, id string) {
	if err := a.journal.MarkKnown(id); err != nil {
		a.log.WarnContext(ctx, "end was not noted as known", "op", id, "err", err)
	}
}

// answer runs a short command or takes a long one in.
func (r *responder) answer(ctx context.Context, m bus.Message, req guestapi.Request) {
	a := r.agent
	ctx, cancel := context.WithTimeout(ctx, shortTimeout)
	defer cancel()
	if longCommands[req.Command] != nil {
		status, err := a.take(ctx, req)
		a.reply(ctx, m, status, err)
		return
	}
	do := shortCommands[req.Command]
	if do == nil {
		a.reply(ctx, m, nil, unknownCommand(req.Command))
		return
	}
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		a.reply(ctx, m, nil, trove.Errorf(trove.KindUnavailable, "The guest is busy with %d other commands.", shortAtOnce))
		return
	}
	defer func() { <-a.slots }()
	began := a.cfg.Clock.Now()
	result, err := guarded(func() (any, error) { return do(ctx, a, req) })
	use, ok := result.(func())
	if ok {
		result = nil
	}
	a.reply(ctx, m, result, err)
	a.logCommand(ctx, req, began, err)
	if use != nil {
		use()
	}
}

func (a *Agent) logCommand(ctx context.Context, req guestapi.Request, began time.Time, err error) {
	took := a.cfg.Clock.Now().Sub(began)
	if err != nil && trove.KindOf(err) == trove.KindInternal {
		a.log.ErrorContext(ctx, "command failed", "command", string(req.Command), "took", took, "err", err)
		return
	}
	a.log.InfoContext(ctx, "command was answered", "command", string(req.Command), "took", took, "err", err)
}

// guarded turns a panic of a driver into an error: the agent, and the other commands, go on.
func guarded(f func() (any, error)) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, fmt.Errorf("the command panicked: %v", p)
		}
	}()
	return f()
}

func (a *Agent) reply(ctx context.Context, m bus.Message, result any, err error) {
	resp := guestapi.Response{V: guestapi.Version}
	if err == nil && result != nil {
		resp.Result, err = json.Marshal(result)
	}
	if err != nil {
		resp.Result, resp.Error = nil, failure(err)
	}
	data, err := json.Marshal(resp)
	if err == nil {
		data = skewAnswer(data)
		err = m.Reply(context.WithoutCancel(ctx), data)
	}
	if err != nil {
		a.log.WarnContext(ctx, "answer was not sent", "err", err)
	}
}

func unknownCommand(c guestapi.Command) error {
	return trove.Errorf(trove.KindNotImplemented, "This guest does not know the command %q.", c)
}

func failure(err error) *guestapi.Failure {
	return &guestapi.Failure{Kind: trove.KindOf(err), Message: trove.MessageOf(err)}
}

func decodeArgs(r guestapi.Request, into any) error {
	if err := json.Unmarshal(r.Args, into); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The arguments of %s are not readable.", r.Command)
	}
	return nil
}

package guestagent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// run is one run of a long command. A command may be run again from the beginning after a crash of the agent: it looks first.
type run struct {
	*Agent
	req  guestapi.Request
	args json.RawMessage
	said string // the sentence of a good end; "": done

	unasked bool // nobody asks after the end, so it is not reported
}

type longCommand struct {
	do       func(ctx context.Context, r *run) error
	args     any // what its arguments decode into; nil: it has none
	deadline time.Duration
}

// longCommands are journalled, run one after another and report their end.
var longCommands = map[guestapi.Command]*longCommand{
	guestapi.CmdPrepare:   {do: prepare, args: guestapi.PrepareArgs{}, deadline: 20 * time.Minute},
	guestapi.CmdRestart:   {do: restart, deadline: 10 * time.Minute},
	guestapi.CmdConfigure: {do: configure, args: guestapi.ConfigureArgs{}, deadline: 10 * time.Minute},
	guestapi.CmdStop:      {do: stop, deadline: 10 * time.Minute},
	guestapi.CmdGrow:      {do: grow, args: guestapi.GrowArgs{}, deadline: 10 * time.Minute},

	guestapi.CmdKeepData:      {do: keepData, deadline: 4 * time.Hour},
	guestapi.CmdUpgrade:       {do: upgradeData, args: guestapi.UpgradeArgs{}, deadline: 12 * time.Hour},
	guestapi.CmdRestoreData:   {do: restoreData, deadline: time.Hour},
	guestapi.CmdDropKept:      {do: dropKept, deadline: time.Hour},
	guestapi.CmdFinishUpgrade: {do: finishUpgrade, deadline: 12 * time.Hour},

	guestapi.CmdUpgradeAgent: {do: upgradeAgent, args: guestapi.UpgradeAgentArgs{}, deadline: time.Hour},
}

// argless are the commands without arguments; a table of its own, because the journal is used by the commands.
var argless = map[guestapi.Command]bool{
	guestapi.CmdRestart: true, guestapi.CmdStop: true,
	guestapi.CmdKeepData: true, guestapi.CmdRestoreData: true, guestapi.CmdDropKept: true, guestapi.CmdFinishUpgrade: true,
}

func takesArgs(c guestapi.Command) bool { return !argless[c] }

// take records a long command, or finds it recorded, and answers with its state.
func (a *Agent) take(ctx context.Context, req guestapi.Request) (guestapi.OperationStatus, error) {
	if takesArgs(req.Command) && !json.Valid(req.Args) {
		return guestapi.OperationStatus{}, trove.Errorf(trove.KindBadRequest, "The command %s has arguments.", req.Command)
	}
	a.mu.Lock()
	full := len(a.queue) >= maxQueued
	a.mu.Unlock()
	if full {
		return guestapi.OperationStatus{}, trove.Errorf(trove.KindUnavailable, "%d commands wait in this guest already.", maxQueued)
	}
	status, fresh, err := a.record(req)
	if err != nil {
		return status, err
	}
	if !fresh {
		if status.State != guestapi.StateRunning {
			a.markKnown(ctx, req.ID)
		}
		return status, nil
	}
	a.log.InfoContext(ctx, "command was accepted", "op", req.ID, "command", string(req.Command))
	wake(a.queued)
	return status, nil
}

// record puts a command into the journal and, if it is new, into the queue. Both have the same order: what is given after a command is known is carried out
// after it.
func (a *Agent) record(req guestapi.Request) (guestapi.OperationStatus, bool, error) {
	a.recording.Lock()
	defer a.recording.Unlock()
	status, fresh, err := a.journal.Start(req)
	if err != nil || !fresh {
		return status, false, err
	}
	req.Args = nil // the journal has them
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, req)
	return status, true, nil
}

// runQueue runs long commands one after another until ctx ends; the one that is running then stays in the journal as running.
func (a *Agent) runQueue(ctx context.Context) {
	for {
		req, ok := a.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-a.queued:
				continue
			}
		}
		a.runOne(withRequest(ctx, req), req)
		if ctx.Err() != nil {
			return
		}
	}
}

func (a *Agent) next() (guestapi.Request, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return guestapi.Request{}, false
	}
	req := a.queue[0]
	a.queue = a.queue[1:]
	return req, true
}

func (a *Agent) runOne(ctx context.Context, req guestapi.Request) {
	c := longCommands[req.Command]
	end := guestapi.OperationStatus{ID: req.ID, State: guestapi.StateDone, Percent: 100, Sentence: "done"}
	began := a.cfg.Clock.Now()
	r, err := a.do(ctx, c, req)
	if err != nil && ctx.Err() != nil {
		return // the agent is ending: the next one runs it again
	}
	if err != nil {
		end.State, end.Percent, end.Error = guestapi.StateFailed, 0, failure(err)
		if _, said := errors.AsType[*trove.Error](err); !said {
			end.Error.Message = "The command " + string(req.Command) + " failed in the guest; its log has the reason."
		}
		end.Sentence = end.Error.Message
		a.log.ErrorContext(ctx, "command failed", "op", req.ID, "command", string(req.Command), "err", err)
	} else {
		end.Sentence = cmp.Or(r.said, end.Sentence)
		a.log.InfoContext(ctx, "command was done", "op", req.ID, "command", string(req.Command), "took", a.cfg.Clock.Now().Sub(began))
	}
	if err := a.journal.End(end); err != nil {
		a.log.ErrorContext(ctx, "end of a command was not recorded", "op", req.ID, "err", err)
	}
	if r.unasked {
		a.markKnown(ctx, req.ID)
	}
	wake(a.ends)
}

func (a *Agent) do(ctx context.Context, c *longCommand, req guestapi.Request) (*run, error) {
	r := &run{Agent: a, req: req}
	if c == nil { // an entry of a newer agent that was taken back
		return r, trove.Errorf(trove.KindNotImplemented, "This guest does not know the command %q.", req.Command)
	}
	var err error
	if r.args, err = a.journal.Args(req.ID); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	_, err = guarded(func() (any, error) { return nil, c.do(ctx, r) })
	return r, err
}

// progressed tells how far the command is. It never waits: a sentence that is not sent is made up for by the next.
func (r *run) progressed(sentence string, percent int) {
	status := r.journal.Progress(r.req.ID, sentence, percent)
	select {
	case r.progress <- status:
	default:
	}
}

func (r *run) decode(into any) error {
	r.req.Args = r.args
	return decodeArgs(r.req, into)
}

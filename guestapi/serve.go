package guestapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// maxServing is how many commands a guest works on at the same time; a caller beyond it is told to come again.
const maxServing = 16

// CommandHandler carries out one command; result is sent as JSON, an error as a Failure of its kind. It may be called from several
// goroutines at once.
type CommandHandler func(ctx context.Context, r Request) (result any, err error)

// Serve answers the commands of an instance until stop is called, which waits for the running ones. Each command runs in its own
// goroutine, so that a slow query does not delay the answer to Status. The handler's context carries the caller's request id.
func Serve(ctx context.Context, conn bus.Conn, instance string, log *slog.Logger, h CommandHandler) (stop func(), err error) {
	var running sync.WaitGroup
	slots := make(chan struct{}, maxServing)
	end, err := conn.Subscribe(ctx, CommandSubject(instance), "", func(ctx context.Context, m bus.Message) {
		select {
		case slots <- struct{}{}:
		default:
			busy := trove.Errorf(trove.KindUnavailable, "The guest agent is busy with %d other commands.", maxServing)
			answer(ctx, log, m, "", nil, busy)
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			serveOne(ctx, log, m, h)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	return func() {
		end()
		running.Wait()
	}, nil
}

func serveOne(ctx context.Context, log *slog.Logger, m bus.Message, h CommandHandler) {
	r, err := DecodeRequest(m.Data)
	if err != nil {
		answer(ctx, log, m, "", nil, err)
		return
	}
	if r.RequestID != "" {
		ctx = telemetry.WithRequestID(ctx, r.RequestID)
	}
	result, err := h(ctx, r)
	answer(ctx, log, m, r.Command, result, err)
}

func answer(ctx context.Context, log *slog.Logger, m bus.Message, cmd Command, result any, err error) {
	if err != nil {
		log.InfoContext(ctx, "command failed", "command", cmd, "err", err)
	}
	if err := m.Reply(ctx, EncodeResponse(result, err)); err != nil {
		log.WarnContext(ctx, "answer could not be sent", "command", cmd, "err", err)
	}
}

// DecodeRequest reads and checks a command. Unknown fields are ignored. An error is of KindBadRequest, or of KindNotImplemented for another
// version of the envelope.
func DecodeRequest(data []byte) (Request, error) {
	if len(data) > MaxMessage {
		return Request{}, trove.Errorf(trove.KindBadRequest, "A command of %d bytes is longer than %d.", len(data), MaxMessage)
	}
	var r Request
	if err := json.Unmarshal(data, &r); err != nil {
		return Request{}, trove.Wrap(trove.KindBadRequest, err, "The command cannot be read.")
	}
	switch {
	case r.V != Version:
		return Request{}, trove.Errorf(trove.KindNotImplemented, "This agent speaks version %d of the protocol, not %d.", Version, r.V)
	case !ValidOperationID(r.ID):
		return Request{}, invalid("command", "id")
	case !name(string(r.Command)):
		return Request{}, invalid("command", "command")
	case r.RequestID != "" && !visible(r.RequestID, maxOpID):
		return Request{}, invalid("command", "req")
	}
	return r, nil
}

// DecodeArgs reads the arguments of a command into args. Arguments that are missing are those of the zero value.
func (r Request) DecodeArgs(args any) error {
	if len(r.Args) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Args, args); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The arguments of the command %s cannot be read.", r.Command)
	}
	return nil
}

// EncodeResponse makes the answer: the result, or the failure if err is not nil. A result that cannot be sent becomes a failure.
func EncodeResponse(result any, err error) []byte {
	r := Response{V: Version}
	if err == nil && result != nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r = Response{V: Version, Error: NewFailure(err)}
	}
	data, err := json.Marshal(r)
	switch {
	case err != nil: // cannot be: the result is JSON already
		return EncodeResponse(nil, err)
	case len(data) > MaxMessage:
		return EncodeResponse(nil, trove.Errorf(trove.KindOverLimit, "The answer is larger than %d bytes.", MaxMessage))
	}
	return data
}

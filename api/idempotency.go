package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// A call with an Idempotency-Key goes through three writes at most: the claim, before anything is done; the effect, in whose transaction the call
// becomes answered, or done if its answer was not known before; and, if neither happened, the answer before it leaves. What that promises:
//
//   - The handler names its answer before its transaction (willAnswer): effect and answer are one commit. A crash loses both or none.
//   - It has a transaction and does not: nobody carries the call out again. A crash before the answer is written leaves a call of which is known that it
//     was carried out.
//   - Its effect is in a guest alone: before it the call notes that it begins (begins), and a crash leaves a claim that ends with its lease. Then the call is
//     carried out again, and takes what is there for its own (begun): nobody else has the key, and its checks had passed.
const (
	// keyLife is how long a key is known.
	keyLife = 24 * time.Hour
	// secretLife is the same for an answer with a secret: long enough for a client that lost the connection.
	secretLife = time.Hour
	// callLease is how long a call may take. A crashed one can be repeated after it.
	callLease = time.Minute
	// callMargin is what is left of the lease when the handler is told to stop.
	callMargin = 10 * time.Second
	maxKey     = 255
	// callBegun stands for the answer of a running call whose effect in a guest may be there.
	callBegun = "begun"
)

// keyedCall is a call with a key that this request carries out.
type keyedCall struct {
	row    store.IdempotentCall
	secret bool
	sealed *recorded // the answer; nil: not known yet
	state  string    // of the row, as it is committed
	next   string    // what the running transaction makes of it
}

// recorded is an answer as it is kept. The body is sealed, because it may hold a secret.
type recorded struct {
	Status    int    `json:"status"`
	Operation string `json:"operation,omitempty"`
	Body      string `json:"body,omitempty"`
}

func callPurpose(id string) string { return "idempotency:" + id }

// claimCall takes the call of a key for this request. Replayed: it was carried out before, and the answer is written.
func (s *server) claimCall(ctx context.Context, w *recorder, op *Operation, c *call) (replayed bool, err error) {
	key := c.req.Header.Get(wire.HeaderIdempotencyKey)
	if key == "" || !op.Creates || c.track == nil {
		return false, nil
	}
	if !validKey(key) {
		return false, bad("The Idempotency-Key has to be of 1 to %d visible ASCII characters.", maxKey)
	}
	print, err := fingerprint(op, c)
	if err != nil {
		return false, err
	}
	id := hash(c.project, key)
	sealed, err := s.cfg.Sealer.Seal(ctx, callPurpose(id), trove.Secret(print))
	if err != nil {
		return false, fmt.Errorf("seal a fingerprint: %w", err)
	}
	now := s.cfg.Clock.Now()
	mine := store.IdempotentCall{
		ID: id, Owner: trove.NewID(), State: store.CallRunning, LeaseEnd: now.Add(callLease), Expires: now.Add(keyLife), Fingerprint: sealed,
	}
	var seen store.IdempotentCall
	plain := context.WithValue(ctx, trackKey{}, (*track)(nil)) // a claim is no change that an audit tells of
	err = s.cfg.Store.InTx(plain, func(ctx context.Context, tx store.Tx) error {
		var err error
		if seen, err = tx.IdempotentCall(ctx, id); err != nil && !trove.IsNotFound(err) {
			return fmt.Errorf("look for the key: %w", err)
		}
		free := seen.Owner == "" || !now.Before(seen.Expires)
		if !free {
			if err := s.sameRequest(ctx, &seen, print); err != nil {
				return err
			}
			if seen.State != store.CallRunning || now.Before(seen.LeaseEnd) {
				return nil
			}
			mine.Answer = seen.Answer // whether it had begun
		}
		return tx.ClaimIdempotentCall(ctx, seen, mine) //nolint:wrapcheck // below
	})
	switch {
	case errors.Is(err, store.ErrLost):
		return false, s.running(c, callLease)
	case err != nil:
		return false, fmt.Errorf("claim the key: %w", err)
	}
	if seen.Owner != "" && now.Before(seen.Expires) {
		switch {
		case seen.State == store.CallAnswered && now.Before(seen.AnswerEnds):
			return true, s.replay(ctx, w, c, &seen)
		case seen.State != store.CallRunning:
			return false, trove.Errorf(trove.KindConflict, "The call with this Idempotency-Key was carried out, but its answer is not kept: look at what is there before you repeat it with another key.")
		case now.Before(seen.LeaseEnd):
			return false, s.running(c, seen.LeaseEnd.Sub(now))
		}
	}
	c.track.call = &keyedCall{row: mine, secret: op.Secret, state: store.CallRunning}
	return false, nil
}

// retryAfter is the longest that a client is told to wait for a call that runs: most end at once.
const retryAfter = 5 * time.Second

func (s *server) running(c *call, left time.Duration) error {
	c.header.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(min(left, retryAfter).Seconds())))))
	return trove.Errorf(trove.KindConflict, "A call with this Idempotency-Key is still running: repeat it later to get its answer.")
}

// sameRequest refuses a key that was given for something else.
func (s *server) sameRequest(ctx context.Context, seen *store.IdempotentCall, print string) error {
	before, err := s.cfg.Sealer.Open(ctx, callPurpose(seen.ID), seen.Fingerprint)
	if err != nil {
		return fmt.Errorf("open a fingerprint: %w", err)
	}
	if before.Reveal() != print {
		return trove.Errorf(trove.KindUnprocessable, "This Idempotency-Key was given for another request: take a new key for each request.")
	}
	return nil
}

func (s *server) replay(ctx context.Context, w *recorder, c *call, seen *store.IdempotentCall) error {
	var r recorded
	if err := json.Unmarshal([]byte(seen.Answer), &r); err != nil {
		return fmt.Errorf("read a recorded answer: %w", err)
	}
	var body trove.Secret
	if r.Body != "" {
		var err error
		if body, err = s.cfg.Sealer.Open(ctx, callPurpose(seen.ID), r.Body); err != nil {
			return fmt.Errorf("open a recorded answer: %w", err)
		}
	}
	h := w.Header()
	h.Set(wire.HeaderReplayed, "true")
	if r.Operation != "" {
		h.Set(wire.HeaderOperation, r.Operation)
		c.track.record.OperationID = r.Operation
	}
	c.track.made([]byte(body.Reveal()))
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.Status)
	_, _ = w.Write([]byte(body.Reveal()))
	return nil
}

// willAnswer says what the answer to a call is before its effect is committed, so that both are one commit. A handler that does not know it does without.
func (s *server) willAnswer(ctx context.Context, c *call, out any) error {
	if c.track == nil {
		return nil
	}
	var body []byte
	if out != nil {
		var err error
		if body, err = encode(new(bytes.Buffer), out); err != nil {
			return err
		}
	}
	c.track.made(body)
	k := c.track.call
	if k == nil {
		return nil
	}
	r := &recorded{Status: c.track.success}
	if len(body) > 0 {
		var err error
		if r.Body, err = s.cfg.Sealer.Seal(ctx, callPurpose(k.row.ID), trove.Secret(body)); err != nil {
			return fmt.Errorf("seal an answer: %w", err)
		}
	}
	k.sealed = r
	return nil
}

// made notes the id of what an answer says was made, where the path does not name a target.
func (t *track) made(body []byte) {
	if t.record.TargetID != "" || len(body) == 0 {
		return
	}
	var wrapped map[string]json.RawMessage
	if json.Unmarshal(body, &wrapped) != nil || len(wrapped) != 1 {
		return
	}
	for name, value := range wrapped {
		var thing struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(value, &thing) == nil && thing.ID != "" {
			t.makesThing(name, thing.ID)
		}
	}
}

// makesThing says what the call makes, where neither its path nor its answer tells.
func (t *track) makesThing(kind, id string) {
	if t.record.TargetID == "" {
		t.record.TargetType, t.record.TargetID, t.makes = kind, id, true
	}
}

// carryOut runs the handler. A call with a key is settled afterwards, whatever came of it.
func (s *server) carryOut(ctx context.Context, op *Operation, c *call) (any, error) {
	if c.track == nil || c.track.call == nil {
		out, err := op.handle(s, ctx, c)
		if err == nil && op.Creates && c.track != nil && c.track.record.TargetID == "" {
			err = s.willAnswer(ctx, c, out) // for the audit record's target
		}
		return out, err
	}
	k := c.track.call
	limited, cancel := context.WithTimeout(ctx, callLease-callMargin)
	defer cancel()
	out, err := op.handle(s, limited, c)
	switch {
	case errors.Is(err, store.ErrLost):
		err = trove.Wrap(trove.KindConflict, err, "The call took too long, and another one with the same Idempotency-Key has taken it over.")
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		err = trove.Wrap(trove.KindUnavailable, err, "The call was not over after %s.", callLease-callMargin)
	}
	switch {
	case err != nil && k.state == store.CallRunning:
		s.release(ctx, k, trove.KindOf(err) == trove.KindUnavailable || limited.Err() != nil)
		return nil, err
	case err != nil || k.state == store.CallAnswered:
		return out, err
	}
	// Its effect is there: a client that is gone, or a store that does not answer, changes nothing of that.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), callMargin)
	defer cancel()
	err = s.willAnswer(ctx, c, out)
	if err == nil {
		err = s.cfg.Store.InTx(ctx, func(context.Context, store.Tx) error { return nil })
	}
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "answer of a call with a key could not be kept", "err", err)
	}
	return out, nil
}

// begins notes that the effect of a call begins, which is in a guest and in no transaction of ours.
func (s *server) begins(ctx context.Context, c *call) error {
	if c.track == nil || c.track.call == nil || c.begun() {
		return nil
	}
	k := c.track.call
	row := k.row
	row.Answer = callBegun
	plain := context.WithValue(ctx, trackKey{}, (*track)(nil))
	err := s.cfg.Store.InTx(plain, func(ctx context.Context, tx store.Tx) error {
		return tx.FinishIdempotentCall(ctx, row) //nolint:wrapcheck // below
	})
	if err != nil {
		return fmt.Errorf("note that a call begins: %w", err)
	}
	k.row = row
	return nil
}

// begun reports whether an attempt at this call, with the same key, has begun its effect: what it would make may be there.
func (c *call) begun() bool {
	return c.track != nil && c.track.call != nil && c.track.call.row.Answer == callBegun
}

// release gives the key back: nothing was done. Of a call that had begun and whose fate is unknown the row stays, for whoever repeats it at once.
func (s *server) release(ctx context.Context, k *keyedCall, unknown bool) {
	ctx = context.WithValue(context.WithoutCancel(ctx), trackKey{}, (*track)(nil))
	err := s.tryRelease(ctx, k, unknown)
	if err == nil || errors.Is(err, store.ErrLost) {
		return
	}
	s.cfg.Log.WarnContext(ctx, "key could not be given back yet", "err", err)
	// The store that refused the call refuses this too. As soon as it answers again, whoever repeats the call shall not have to wait for the lease.
	go s.keepReleasing(ctx, k, unknown)
}

// releaseAgain is how soon a key that could not be given back is tried again.
const releaseAgain = 500 * time.Millisecond

// keepReleasing tries until the key is given back, or until its lease ends.
func (s *server) keepReleasing(ctx context.Context, k *keyedCall, unknown bool) {
	for s.cfg.Clock.Now().Before(k.row.LeaseEnd) {
		select {
		case <-s.cfg.Draining: // nil: never
			return
		case <-time.After(releaseAgain):
		}
		if err := s.tryRelease(ctx, k, unknown); err == nil || errors.Is(err, store.ErrLost) {
			return
		}
	}
}

func (s *server) tryRelease(ctx context.Context, k *keyedCall, unknown bool) error {
	ctx, cancel := context.WithTimeout(ctx, callMargin)
	defer cancel()
	//nolint:wrapcheck // logged
	return s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if unknown && k.row.Answer == callBegun {
			over := k.row
			over.LeaseEnd = s.cfg.Clock.Now()
			return tx.ClaimIdempotentCall(ctx, k.row, over)
		}
		return tx.ReleaseIdempotentCall(ctx, k.row.ID, k.row.Owner)
	})
}

// leave writes into a transaction of the request how far the call is.
func (k *keyedCall) leave(ctx context.Context, tx store.Tx, operation string) error {
	if k.next = k.state; k.state == store.CallAnswered {
		return nil
	}
	row := k.row
	row.State, row.Answer = store.CallDone, ""
	if k.sealed != nil {
		answer := *k.sealed
		answer.Operation = operation
		text, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("encode an answer: %w", err)
		}
		row.State, row.Answer, row.AnswerEnds = store.CallAnswered, string(text), row.Expires
		if k.secret {
			row.AnswerEnds = row.LeaseEnd.Add(secretLife - callLease)
		}
	}
	k.next = row.State
	return tx.FinishIdempotentCall(ctx, row) //nolint:wrapcheck // a store's error says what it did
}

func (k *keyedCall) left() { k.state = k.next }

func validKey(key string) bool {
	for _, b := range []byte(key) {
		if b < '!' || b > '~' {
			return false
		}
	}
	return key != "" && len(key) <= maxKey
}

// fingerprint is what two requests with one key have to have in common. The body counts by its meaning, not by its spaces.
func fingerprint(op *Operation, c *call) (string, error) {
	body, err := json.Marshal(c.body)
	if err != nil {
		return "", fmt.Errorf("encode a request: %w", err)
	}
	return hash(op.Method, c.req.URL.EscapedPath(), string(body)), nil
}

func hash(parts ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return hex.EncodeToString(sum[:])
}

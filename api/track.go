package api

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/edge"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/store"
)

// track is what a request that may change something leaves behind beside the change: its audit record, and its answer if it carries an
// Idempotency-Key. Both go into the first transaction that the request commits, so that there is no change without them and they cost no commit of
// their own. It belongs to the request's goroutine.
type track struct {
	record  trove.AuditRecord
	success int                // the status that the record has when the change commits
	makes   bool               // the target is what the call makes: there is none if it is refused
	written *trove.AuditRecord // as it was committed; nil: not yet
	call    *keyedCall         // nil: no key
	took    func() time.Duration
}

type trackKey struct{}

// trackOf returns the track of a request; nil for one that changes nothing, and its methods do nothing.
func trackOf(ctx context.Context) *track {
	t, _ := ctx.Value(trackKey{}).(*track)
	return t
}

// track begins to follow a request that may change something below a project.
func (s *server) track(ctx context.Context, w *recorder, r *http.Request, start time.Time) context.Context {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return ctx
	}
	if !strings.HasPrefix(r.URL.Path, versionPrefix+"/") {
		return ctx
	}
	t := &track{took: clock.Stopwatch(), success: http.StatusOK, record: trove.AuditRecord{
		ID: trove.NewAuditID(start), RequestID: telemetry.RequestID(ctx), Method: r.Method, Path: r.URL.EscapedPath(),
		Remote: edge.Of(r).Client.String(),
	}}
	w.before = func(status int) { s.audit.settle(ctx, t, status) }
	return context.WithValue(ctx, trackKey{}, t)
}

func (t *track) by(c *identity.Caller) {
	if t != nil {
		t.record.UserID, t.record.UserName, t.record.ProjectID, t.record.Roles = c.UserID, c.UserName, c.ProjectID, c.Roles
	}
}

// does says what the request asks for. The target is the first thing that its path names.
func (t *track) does(op *Operation, ps params) {
	if t == nil {
		return
	}
	t.record.Action, t.success = op.ID, op.Success
	if len(ps) > 0 {
		t.record.TargetType, t.record.TargetID = targetType(ps[0][0], op.Path), ps[0][1]
	}
}

// targetType names what a parameter stands for; {id} is an instance in the paths of operations.
func targetType(param, path string) string {
	if param == "id" {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		return strings.TrimSuffix(first, "s")
	}
	return param
}

// trackingStore is the store as handlers see it: their transactions also write what the request leaves behind.
type trackingStore struct{ store.Store }

// InTx is store.Store's.
func (s trackingStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	t := trackOf(ctx)
	if t == nil {
		return s.Store.InTx(ctx, fn) //nolint:wrapcheck // as if it were not here
	}
	var written *trove.AuditRecord
	err := s.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		seen := &trackingTx{Tx: tx}
		if err := fn(ctx, seen); err != nil {
			return err
		}
		written, err = t.leave(ctx, tx, seen.operation)
		return err
	})
	if err != nil {
		return err //nolint:wrapcheck // as if it were not here
	}
	t.left(written)
	return nil
}

// Committed is what the store tells of others' commits, if it does.
func (s trackingStore) Committed() <-chan struct{} {
	if teller, ok := s.Store.(interface{ Committed() <-chan struct{} }); ok {
		return teller.Committed()
	}
	return nil
}

// trackingTx sees which operation a transaction enqueues.
type trackingTx struct {
	store.Tx
	operation string
}

// EnqueueOperation is store.Tx's.
func (t *trackingTx) EnqueueOperation(ctx context.Context, o store.OperationRow) error {
	err := t.Tx.EnqueueOperation(ctx, o)
	if err == nil {
		t.operation = o.ID
	}
	return err //nolint:wrapcheck // as if it were not here
}

// leave writes what the request leaves behind into its transaction.
func (t *track) leave(ctx context.Context, tx store.Tx, operation string) (*trove.AuditRecord, error) {
	operation = cmp.Or(operation, t.record.OperationID)
	if t.call != nil {
		if err := t.call.leave(ctx, tx, operation); err != nil {
			return nil, err
		}
	}
	if t.written != nil {
		return t.written, nil
	}
	r := t.record
	r.Status, r.Took, r.OperationID = t.success, t.took(), operation
	return &r, tx.AppendAudit(ctx, r) //nolint:wrapcheck // a store's error says what it did
}

// left notes that the transaction was committed.
func (t *track) left(written *trove.AuditRecord) {
	if t.written = written; written.OperationID != "" {
		t.record.OperationID = written.OperationID
	}
	if t.call != nil {
		t.call.left()
	}
}

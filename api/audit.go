package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// auditor writes the audit records of requests that committed nothing themselves: refused ones, and those whose change is in a guest alone. Those that
// come at the same time share a commit. It has no goroutine: one of the requests that wait writes for all.
type auditor struct {
	store store.Store
	clock clock.Clock
	log   *slog.Logger
	// strangers are records of calls without a valid token and past the rate limit: nobody can fill the table, and push others out of it, by asking in vain.
	strangers *rate.Limiter

	turn chan struct{} // who has it writes

	mu      sync.Mutex
	waiting []*unwritten
}

// unwritten is a record on its way; done gets the outcome.
type unwritten struct {
	record trove.AuditRecord
	amends bool
	done   chan error
}

const (
	strangersPerSecond = 2
	strangersBurst     = 120
	auditPatience      = 10 * time.Second
)

func newAuditor(cfg Config) *auditor {
	return &auditor{
		store: cfg.Store, clock: cfg.Clock, log: cfg.Log, turn: make(chan struct{}, 1),
		strangers: rate.NewLimiter(strangersPerSecond, strangersBurst),
	}
}

// settle sees to it that the record says how the request ended, before the answer leaves.
func (a *auditor) settle(ctx context.Context, t *track, status int) {
	r := t.record
	r.Status, r.Took = status, t.took()
	if t.makes && !r.Succeeded() && t.written == nil {
		r.TargetType, r.TargetID = "", ""
	}
	a.log.InfoContext(ctx, "audit", "user", r.UserID, "project", r.ProjectID, "remote", r.Remote, "method", r.Method, "action", r.Action,
		"target", r.TargetID, "op", r.OperationID, "status", status, "took", r.Took)
	amends := t.written != nil
	switch {
	case amends && t.written.Status == status && t.written.TargetID == r.TargetID:
		return
	case !amends && (r.UserID == "" || t.limited(status)) && !a.strangers.AllowN(a.clock.Now(), 1):
		return // the log has it
	}
	// A client that is gone does not make the change undone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditPatience)
	defer cancel()
	if err := a.write(ctx, &unwritten{record: r, amends: amends, done: make(chan error, 1)}); err != nil {
		a.log.ErrorContext(ctx, "audit record could not be written", "err", err)
	}
}

// limited reports whether the request was over the rate limit: it was refused before it was known what it asks for.
func (t *track) limited(status int) bool {
	return status == http.StatusRequestEntityTooLarge && t.record.Action == ""
}

func (a *auditor) write(ctx context.Context, u *unwritten) error {
	a.mu.Lock()
	a.waiting = append(a.waiting, u)
	a.mu.Unlock()
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case a.turn <- struct{}{}:
	}
	a.mu.Lock()
	batch := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	if len(batch) > 0 { // else somebody wrote u meanwhile
		err := a.commit(ctx, batch)
		for _, b := range batch {
			b.done <- err
		}
	}
	<-a.turn
	return <-u.done
}

func (a *auditor) commit(ctx context.Context, batch []*unwritten) error {
	err := a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		for _, b := range batch {
			put := tx.AppendAudit
			if b.amends {
				put = tx.AmendAudit
			}
			if err := put(ctx, b.record); err != nil {
				return err //nolint:wrapcheck // below
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %d audit records: %w", len(batch), err)
	}
	return nil
}

func auditOperations() []Operation {
	return []Operation{{
		ID: "listAudit", Method: http.MethodGet, Path: "/mgmt/audit", Rule: "mgmt:audit", Extension: true,
		Summary: "List who asked for changes, from where, and what came of it, in all projects, newest first; administrators only. Names are CADF's where it has one.",
		Query: []Query{
			queryLimit, queryMarker,
			{"project", "string", "calls of this project"},
			{"user", "string", "calls of the user with this id or name"},
			{"target", "string", "calls about the thing with this id"},
			{"instance", "string", "the same as target"},
			{"method", "string", "POST, PUT, PATCH or DELETE"},
			{"outcome", "string", "success or failure"},
			{"since", "string", "calls from this time on, such as 2026-01-02T03:04:05Z"},
			{"until", "string", "calls before this time"},
		},
		Success: http.StatusOK, Response: wire.AuditList{}, handle: (*server).listAudit,
	}}
}

func (s *server) listAudit(ctx context.Context, c *call) (any, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	f, err := auditFilter(c)
	if err != nil {
		return nil, err
	}
	f.Marker, f.Limit = unquote(p.marker), p.limit+1
	found, err := s.cfg.Store.AuditRecords(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the audit records: %w", err)
	}
	out := wire.AuditList{Audit: []wire.AuditRecord{}}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
	}
	for n := range found {
		out.Audit = append(out.Audit, viewAudit(&found[n]))
	}
	return &out, nil
}

func auditFilter(c *call) (store.AuditFilter, error) {
	q := c.req.URL.Query()
	f := store.AuditFilter{ProjectID: q.Get("project"), User: q.Get("user"), TargetID: q.Get("target"), Method: q.Get("method")}
	if instance := q.Get("instance"); instance != "" {
		if f.TargetID != "" && f.TargetID != instance {
			return f, bad("Give target or instance, not both.")
		}
		f.TargetID = instance
	}
	switch outcome := q.Get("outcome"); outcome {
	case "":
	case "success", "failure":
		yes := outcome == "success"
		f.Succeeded = &yes
	default:
		return f, bad("The outcome %q is neither success nor failure.", outcome)
	}
	for _, at := range []struct {
		name string
		into *time.Time
	}{{"since", &f.Since}, {"until", &f.Until}} {
		text := q.Get(at.name)
		if text == "" {
			continue
		}
		when, err := readTime(text)
		if err != nil {
			return f, bad("The time %q in %s is not one such as 2026-01-02T03:04:05Z.", text, at.name)
		}
		*at.into = when
	}
	return f, nil
}

// readTime reads a time with or without a zone; none is UTC.
func readTime(text string) (time.Time, error) {
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		when, err = time.Parse(wire.Layout, text)
	}
	return when, err //nolint:wrapcheck // the caller says which
}

func viewAudit(r *trove.AuditRecord) wire.AuditRecord {
	out := wire.AuditRecord{
		ID: r.ID, EventTime: r.At(), Action: r.Action, Outcome: "failure", Reason: wire.AuditReason{ReasonCode: strconv.Itoa(r.Status)},
		Initiator: wire.AuditInitiator{
			ID: r.UserID, Name: r.UserName, ProjectID: r.ProjectID, Roles: append([]string{}, r.Roles...), Host: wire.AuditHost{Address: r.Remote},
		},
		Target:    wire.AuditTarget{ID: r.TargetID},
		RequestID: r.RequestID, Method: r.Method, RequestPath: r.Path, OperationID: r.OperationID, Seconds: r.Took.Seconds(),
	}
	if r.Succeeded() {
		out.Outcome = "success"
	}
	if r.TargetType != "" {
		out.Target.TypeURI = "service/database/" + r.TargetType
	}
	return out
}

// Retention is how long what requests leave behind is kept.
type Retention struct {
	AuditAge  time.Duration // 0: for ever
	AuditKeep int           // so many records at most; 0: any number
}

// pruneBatch is how many rows are removed in one transaction: writers wait for it.
const pruneBatch = 1000

// Prune removes what is not kept any more. It may be called by several processes at once, and cut off at any point.
func Prune(ctx context.Context, st store.Store, now time.Time, keep Retention) (audit, calls int, err error) {
	oldest := time.Time{}
	if keep.AuditAge > 0 {
		oldest = now.Add(-keep.AuditAge)
	}
	for more := true; more && err == nil; {
		var a, c int
		err = st.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			var errA, errC error
			a, errA = tx.PruneAudit(ctx, oldest, keep.AuditKeep, pruneBatch)
			c, errC = tx.PruneIdempotentCalls(ctx, now, pruneBatch)
			return errors.Join(errA, errC)
		})
		audit, calls = audit+a, calls+c
		more = a >= pruneBatch || c >= pruneBatch
	}
	if err != nil {
		return audit, calls, fmt.Errorf("prune audit records and idempotent calls: %w", err)
	}
	return audit, calls, nil
}

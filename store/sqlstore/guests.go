package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// lostAnswer is how long a guest whose answer was lost may repeat its enrolment with the same key.
const lostAnswer = time.Minute

func (r reader) Guest(ctx context.Context, instance string) (store.Guest, error) {
	g := store.Guest{InstanceID: instance}
	var used, ends int64
	err := r.run.row(ctx, []any{&g.PublicKey, &used, &ends, &g.Trust, &g.BootReturns},
		`SELECT g.public_key, g.token_used, g.credential_ends, g.trust, COALESCE(s.boot_returns, 0)
FROM guest g LEFT JOIN guest_state s ON s.instance_id=g.instance_id WHERE g.instance_id=?`, instance)
	if errors.Is(err, sql.ErrNoRows) {
		return g, notFound(instance)
	}
	if err != nil {
		return g, fmt.Errorf("read the guest of %s: %w", instance, err)
	}
	g.TokenUsed, g.CredentialEnds = fromMicros(used), fromMicros(ends)
	return g, nil
}

func (r reader) TokenOwner(ctx context.Context, tokenHash string) (instance string, err error) {
	err = r.run.row(ctx, []any{&instance}, `SELECT instance_id FROM guest WHERE token_hash=?`, tokenHash)
	if errors.Is(err, sql.ErrNoRows) {
		return "", trove.Errorf(trove.KindNotFound, "The enrolment token is not valid.")
	}
	if err != nil {
		return "", fmt.Errorf("read whose an enrolment token is: %w", err)
	}
	return instance, nil
}

func (t *tx) PutEnrolmentToken(ctx context.Context, instance, tokenHash string, expires time.Time) error {
	n, err := t.run.exec(ctx, `UPDATE guest SET token_hash=?, token_expires=?, token_used=0 WHERE instance_id=?`, tokenHash, micros(expires), instance)
	if err != nil {
		return fmt.Errorf("write the enrolment token of %s: %w", instance, err)
	}
	if n == 0 {
		return notFound(instance)
	}
	return nil
}

func (t *tx) UseEnrolmentToken(ctx context.Context, tokenHash, publicKey string, now time.Time) (string, error) {
	var instance, key string
	var expires, used int64
	err := t.run.row(ctx, []any{&instance, &key, &expires, &used},
		`SELECT instance_id, public_key, token_expires, token_used FROM guest WHERE token_hash=?`, tokenHash)
	if errors.Is(err, sql.ErrNoRows) {
		return "", trove.Errorf(trove.KindUnauthorized, "The enrolment token is not valid.")
	}
	if err != nil {
		return "", fmt.Errorf("read an enrolment token: %w", err)
	}
	if used != 0 {
		if key == publicKey && now.Sub(fromMicros(used)) <= lostAnswer {
			return instance, nil
		}
		return instance, trove.Errorf(trove.KindConflict, "The enrolment token was used before.")
	}
	if micros(now) >= expires {
		return "", trove.Errorf(trove.KindUnauthorized, "The enrolment token has expired.")
	}
	err = swap(ctx, t.run, `UPDATE guest SET public_key=?, token_used=?, credential_ends=0, trust='' WHERE instance_id=? AND token_hash=? AND token_used=0`,
		publicKey, micros(now), instance, tokenHash)
	if err != nil {
		return "", fmt.Errorf("use the enrolment token of %s: %w", instance, err)
	}
	return instance, nil
}

func (t *tx) SetGuestCredential(ctx context.Context, instance string, expires time.Time) error {
	n, err := t.run.exec(ctx, `UPDATE guest SET credential_ends=? WHERE instance_id=?`, micros(expires), instance)
	if err != nil {
		return fmt.Errorf("write the credential of %s: %w", instance, err)
	}
	if n == 0 {
		return notFound(instance)
	}
	return nil
}

func (t *tx) RecordReports(ctx context.Context, reports []store.GuestReport) error {
	for _, r := range reports {
		// The order matters: MariaDB evaluates from left to right with the new values. What is older than the stored state is dropped, and a
		// status that was set by us after the report was made stays.
		_, err := t.run.exec(ctx, `UPDATE guest_state SET service=CASE
WHEN service_at > ? THEN service
WHEN service = ? AND boot_id = ? AND (engine_start = ? OR 1 = ?) THEN service
ELSE ? END,
boot_returns=CASE WHEN boot_id <> ? AND boot_before = ? THEN boot_returns + 1 ELSE boot_returns END,
boot_before=CASE WHEN boot_id <> ? THEN boot_id ELSE boot_before END,
seen_at=?, boot_id=?, agent_version=?, engine_start=?, volume_used=?, volume_total=?,
agent_start=CASE WHEN 1 = ? THEN agent_start ELSE ? END WHERE instance_id=? AND seen_at <= ?`,
			micros(r.SeenAt), string(trove.ServiceRestartRequired), r.BootID, r.EngineStart, flag(r.EngineStart == 0), string(r.Service),
			r.BootID, r.BootID, r.BootID,
			micros(r.SeenAt), r.BootID, r.AgentVersion, r.EngineStart, r.VolumeUsed, r.VolumeTotal,
			flag(r.AgentStart == 0), r.AgentStart, r.InstanceID, micros(r.SeenAt))
		if err != nil {
			return fmt.Errorf("record the report of %s: %w", r.InstanceID, err)
		}
	}
	return nil
}

func (t *tx) SetGuestEvent(ctx context.Context, instance string, at int64) error {
	n, err := t.run.exec(ctx, `UPDATE guest_state SET event_at=? WHERE instance_id=?`, at, instance)
	if err != nil {
		return fmt.Errorf("note an event of %s: %w", instance, err)
	}
	if n == 0 {
		return notFound(instance)
	}
	return nil
}

func (t *tx) SetServiceStatus(ctx context.Context, instance string, s trove.ServiceStatus, now time.Time) error {
	n, err := t.run.exec(ctx, `UPDATE guest_state SET service=?, service_at=? WHERE instance_id=?`, string(s), micros(now), instance)
	if err != nil {
		return fmt.Errorf("set the service status of %s: %w", instance, err)
	}
	if n == 0 {
		return notFound(instance)
	}
	return nil
}

func (r reader) Report(ctx context.Context, operation string) (store.Report, error) {
	rep := store.Report{OperationID: operation}
	var at int64
	var result string
	err := r.run.row(ctx, []any{&rep.InstanceID, &at, &rep.Done, &rep.Error, &rep.ErrorKind, &rep.Sentence, &rep.Percent, &result},
		`SELECT instance_id, at, done, error, error_kind, sentence, percent, result FROM report WHERE operation_id=?`, operation)
	if errors.Is(err, sql.ErrNoRows) {
		return rep, notFound(operation)
	}
	if err != nil {
		return rep, fmt.Errorf("read the report of operation %s: %w", operation, err)
	}
	rep.At = fromMicros(at)
	if result != "" {
		rep.Result = []byte(result)
	}
	return rep, nil
}

func (t *tx) PutReport(ctx context.Context, r store.Report) error {
	args := []any{
		micros(r.At), flag(r.Done), r.Error, int(r.ErrorKind), r.Sentence, r.Percent, string(r.Result), r.OperationID, r.InstanceID,
	}
	n, err := t.run.exec(ctx, `UPDATE report SET at=?, done=?, error=?, error_kind=?, sentence=?, percent=?, result=?
WHERE operation_id=? AND instance_id=? AND done=0`, args...)
	if err != nil || n > 0 {
		return wrapReport(r, err)
	}
	var owner string
	err = t.run.row(ctx, []any{&owner}, `SELECT instance_id FROM report WHERE operation_id=?`, r.OperationID)
	if err == nil && owner != r.InstanceID {
		return trove.Errorf(trove.KindForbidden, "Operation %s is not one of instance %s.", r.OperationID, r.InstanceID)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return wrapReport(r, err) // it has ended before: the first end counts
	}
	_, err = t.run.exec(ctx, `INSERT INTO report (at, done, error, error_kind, sentence, percent, result, operation_id, instance_id)
VALUES (?,?,?,?,?,?,?,?,?)`, args...)
	return wrapReport(r, err)
}

func wrapReport(r store.Report, err error) error {
	if err != nil {
		return fmt.Errorf("put the report of operation %s: %w", r.OperationID, err)
	}
	return nil
}

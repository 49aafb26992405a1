package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func (r reader) Authorities(ctx context.Context) ([]store.Authority, error) {
	var found []store.Authority
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var a store.Authority
		var made, ends int64
		err := rows.Scan(&a.ID, &a.Certificate, &a.Cross, &a.SealedKey, &made, &ends)
		a.Made, a.Ends = fromMicros(made), fromMicros(ends)
		found = append(found, a)
		return err
	}, `SELECT id, certificate, cross_cert, sealed_key, made, ends FROM engine_authority ORDER BY CASE WHEN successor='' THEN 0 ELSE 1 END, made DESC, id`)
	if err != nil {
		return nil, fmt.Errorf("read the authorities of databases: %w", err)
	}
	return found, nil
}

func (r reader) DueCertificates(ctx context.Context, authority string, ends, now time.Time, limit int) ([]string, error) {
	var found []string
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		found = append(found, id)
		return err
	}, `SELECT s.instance_id FROM guest_state s LEFT JOIN instance_certificate c ON c.instance_id=s.instance_id
WHERE s.seen_at > 0 AND (c.instance_id IS NULL OR c.try_at <= ? AND (c.authority_id <> ? OR c.ends < ?)) ORDER BY s.instance_id LIMIT ?`,
		micros(now), authority, micros(ends), unlimited(limit))
	if err != nil {
		return nil, fmt.Errorf("list the databases that need a certificate: %w", err)
	}
	return found, nil
}

// InsertAuthority makes the new one the successor of the newest. That no two are made at once is up to the unique index: each row names one successor, and
// the newest names none.
func (t *tx) InsertAuthority(ctx context.Context, a store.Authority, newest string) error {
	taken := func() error {
		return trove.Errorf(trove.KindConflict, "There is a newer authority for the certificates of databases.")
	}
	present, err := t.Authorities(ctx)
	switch {
	case err != nil:
		return err
	case len(present) > 0 && present[0].ID != newest, len(present) == 0 && newest != "":
		return taken()
	}
	if newest != "" {
		n, err := t.run.exec(ctx, `UPDATE engine_authority SET successor=? WHERE id=? AND successor=''`, a.ID, newest)
		if err != nil {
			return fmt.Errorf("name the successor of authority %s: %w", newest, err)
		}
		if n == 0 {
			return taken()
		}
	}
	_, err = t.run.exec(ctx, `INSERT INTO engine_authority (id, successor, certificate, cross_cert, sealed_key, made, ends) VALUES (?,'',?,?,?,?,?)`,
		a.ID, a.Certificate, a.Cross, a.SealedKey, micros(a.Made), micros(a.Ends))
	if err != nil {
		return fmt.Errorf("insert authority %s: %w", a.ID, err)
	}
	return nil
}

func (t *tx) DeleteAuthority(ctx context.Context, id string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM engine_authority WHERE id=?`, id); err != nil {
		return fmt.Errorf("delete authority %s: %w", id, err)
	}
	return nil
}

func (t *tx) PutCertificate(ctx context.Context, c store.Certificate) error {
	n, err := t.run.exec(ctx, `UPDATE instance_certificate SET authority_id=?, ends=?, try_at=? WHERE instance_id=?`,
		c.AuthorityID, micros(c.Ends), micros(c.TryAt), c.InstanceID)
	if err == nil && n == 0 {
		_, err = t.run.exec(ctx, `INSERT INTO instance_certificate (instance_id, authority_id, ends, try_at) VALUES (?,?,?,?)`,
			c.InstanceID, c.AuthorityID, micros(c.Ends), micros(c.TryAt))
	}
	if err != nil {
		return fmt.Errorf("note the certificate of %s: %w", c.InstanceID, err)
	}
	return nil
}

func (t *tx) PutOffCertificate(ctx context.Context, instance string, until time.Time) error {
	n, err := t.run.exec(ctx, `UPDATE instance_certificate SET try_at=? WHERE instance_id=?`, micros(until), instance)
	if err == nil && n == 0 {
		_, err = t.run.exec(ctx, `INSERT INTO instance_certificate (instance_id, authority_id, ends, try_at) VALUES (?,'',0,?)`, instance, micros(until))
	}
	if err != nil {
		return fmt.Errorf("put off the certificate of %s: %w", instance, err)
	}
	return nil
}

func (t *tx) ForgetCertificate(ctx context.Context, instance string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM instance_certificate WHERE instance_id=?`, instance); err != nil {
		return fmt.Errorf("forget the certificate of %s: %w", instance, err)
	}
	return nil
}

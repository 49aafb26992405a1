package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Controller is a broker of the deployment as others find it.
type Controller struct {
	ID       string
	RouteURL string
	Clients  []string // host:port of the bus
	Enrol    []string // URLs of the enrolment endpoint
	SeenAt   time.Time

	Objects    []string      // URLs of the object gateway beside it
	Control    string        // host:port where controllers of other hosts reach the bus
	Host       string        // the name of its machine
	ClockAhead time.Duration // of the database's clock
}

// PutController inserts or replaces the row of a broker.
func (s *Store) PutController(ctx context.Context, c Controller) error {
	clients, err := json.Marshal(c.Clients)
	if err != nil {
		return fmt.Errorf("put controller %s: %w", c.ID, err)
	}
	enrol, err := json.Marshal(c.Enrol)
	if err != nil {
		return fmt.Errorf("put controller %s: %w", c.ID, err)
	}
	objects, err := json.Marshal(c.Objects)
	if err != nil {
		return fmt.Errorf("put controller %s: %w", c.ID, err)
	}
	return s.inTx(ctx, "put controller "+c.ID, func(ctx context.Context, run runner) error {
		return put(ctx, run, `UPDATE controller SET route_url=?, client_url=?, enrol_url=?, seen_at=?, objects_url=?, control_address=?, host=?, clock_ahead=? WHERE id=?`,
			`INSERT INTO controller (route_url, client_url, enrol_url, seen_at, objects_url, control_address, host, clock_ahead, id) VALUES (?,?,?,?,?,?,?,?,?)`,
			c.RouteURL, string(clients), string(enrol), micros(c.SeenAt), string(objects), c.Control, c.Host, c.ClockAhead.Microseconds(), c.ID)
	})
}

// Controllers returns the rows of all brokers, ordered by id.
func (s *Store) Controllers(ctx context.Context) ([]Controller, error) {
	var found []Controller
	err := list(ctx, s.run, func(rows *sql.Rows) error {
		var c Controller
		var clients, enrol, objects string
		var seen, ahead int64
		if err := rows.Scan(&c.ID, &c.RouteURL, &clients, &enrol, &seen, &objects, &c.Control, &c.Host, &ahead); err != nil {
			return err
		}
		c.SeenAt, c.ClockAhead = fromMicros(seen), time.Duration(ahead)*time.Microsecond
		found = append(found, c)
		last := &found[len(found)-1]
		return errors.Join(json.Unmarshal([]byte(clients), &last.Clients), json.Unmarshal([]byte(enrol), &last.Enrol), json.Unmarshal([]byte(objects), &last.Objects))
	}, `SELECT id, route_url, client_url, enrol_url, seen_at, objects_url, control_address, host, clock_ahead FROM controller ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read controllers: %w", err)
	}
	return found, nil
}

// GuestTrust is what the guest of a living instance was told of the bus, and when it was heard of.
type GuestTrust struct {
	InstanceID string
	Trust      string
	SeenAt     time.Time
}

// GuestTrusts returns those of the guests that have enrolled, ordered by instance.
func (s *Store) GuestTrusts(ctx context.Context) ([]GuestTrust, error) {
	var found []GuestTrust
	err := list(ctx, s.run, func(rows *sql.Rows) error {
		var g GuestTrust
		var seen int64
		err := rows.Scan(&g.InstanceID, &g.Trust, &seen)
		g.SeenAt = fromMicros(seen)
		found = append(found, g)
		return err
	}, `SELECT g.instance_id, g.trust, s.seen_at FROM guest g JOIN guest_state s ON s.instance_id=g.instance_id
WHERE g.public_key<>'' ORDER BY g.instance_id`)
	if err != nil {
		return nil, fmt.Errorf("read what guests were told: %w", err)
	}
	return found, nil
}

func (t *tx) SetGuestTrust(ctx context.Context, instance, trust string) error {
	n, err := t.run.exec(ctx, `UPDATE guest SET trust=? WHERE instance_id=?`, trust, instance)
	if err != nil {
		return fmt.Errorf("write what the guest of %s was told: %w", instance, err)
	}
	if n == 0 {
		return notFound(instance)
	}
	return nil
}

// ClearGuest forgives a guest: its revoked key is accepted again, boots that came back are forgotten, and an instance that was in error for it is
// no longer. The brokers take notice within seconds.
func (s *Store) ClearGuest(ctx context.Context, instance string, now time.Time) error {
	err := s.InTx(ctx, func(ctx context.Context, t store.Tx) error {
		run := t.(*tx).run
		i, err := t.Instance(ctx, instance)
		if err != nil {
			return err
		}
		if _, err := run.exec(ctx, `DELETE FROM revoked_key WHERE instance_id=?`, instance); err != nil {
			return err
		}
		if _, err := run.exec(ctx, `UPDATE guest_state SET boot_returns=0, boot_before='' WHERE instance_id=?`, instance); err != nil {
			return err
		}
		if i.Task != trove.TaskGuestRevoked {
			return nil
		}
		return t.UpdateInstance(ctx, instance, now, func(i *trove.Instance) error {
			i.Task, i.Fault = trove.TaskNone, nil
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("clear the guest of %s: %w", instance, err)
	}
	return nil
}

package postgresql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Ready makes what Prepare asked for, when there is something, and lets clients in then. It may be repeated.
func (e *Engine) Ready(ctx context.Context, l engine.Layout) error {
	p := place{l}
	e.mu.Lock()
	defer e.mu.Unlock()
	var want *expectation
	data, err := os.ReadFile(p.expectFile())
	if err == nil {
		want = &expectation{}
		err = json.Unmarshal(data, want)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read what the first start shall make: %w", err)
	}
	err = p.with(ctx, adminDB, func(c conn) error {
		if err := ensureStatements(ctx, c); err != nil {
			return err
		}
		if want == nil {
			return nil
		}
		return p.fulfil(ctx, c, *want)
	})
	if err != nil {
		return err
	}
	k, err := p.readKept()
	if err != nil {
		return err
	}
	version, err := p.programsVersion(ctx)
	if err != nil {
		return err
	}
	if k.Programs != version {
		k.Programs = version
		if err := p.writeKept(k); err != nil {
			return err
		}
	}
	if want == nil {
		return nil
	}
	if err := os.Remove(p.expectFile()); err != nil {
		return fmt.Errorf("end the first start: %w", err)
	}
	return p.reread(ctx, k)
}

// ensureStatements makes the view on the counted statements, in the database that tenants make nothing in.
func ensureStatements(ctx context.Context, c conn) error {
	_, there, err := c.one(ctx, "SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'")
	if err != nil {
		return fmt.Errorf("look for the extension pg_stat_statements: %w", err)
	}
	if there {
		return nil
	}
	if err := c.exec(ctx, "CREATE EXTENSION pg_stat_statements SCHEMA public"); err != nil {
		return fmt.Errorf("make the extension pg_stat_statements: %w", err)
	}
	return nil
}

// fulfil makes what is not there yet: a first start that died may be repeated.
func (p place) fulfil(ctx context.Context, c conn, want expectation) error {
	for _, d := range want.Databases {
		if err := p.createDatabase(ctx, c, d); err != nil && trove.KindOf(err) != trove.KindConflict {
			return err
		}
	}
	for _, u := range want.Users {
		err := createUser(ctx, c, u.Name, u.Verifier)
		if trove.KindOf(err) == trove.KindConflict {
			err = c.exec(ctx, "ALTER ROLE "+quote(u.Name)+" LOGIN PASSWORD "+literal(u.Verifier))
		}
		if err != nil {
			return fmt.Errorf("make user %s: %w", u.Name, err)
		}
		if err := p.grant(ctx, c, u.Name, u.Databases); err != nil {
			return err
		}
	}
	if want.Root != "" {
		return p.enableRoot(ctx, c, want.Root)
	}
	return nil
}

// Ping asks a query.
func (e *Engine) Ping(ctx context.Context, l engine.Layout) error {
	return place{l}.with(ctx, adminDB, func(c conn) error { return c.exec(ctx, "SELECT 1") })
}

package postgresql

import (
	"context"
	"fmt"
	"strings"

	"github.com/trove-dbaas/trove/engine"
)

// FinishUpgrade implements engine.Upgrader: extensions of the new image's version, statistics that an upgrade left out, and indexes whose order has changed.
func (e *Engine) FinishUpgrade(ctx context.Context, l engine.Layout, progress engine.Progress) ([]string, error) {
	p := place{l}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, err := p.readKept()
	if err != nil {
		return nil, err
	}
	var databases []string
	err = p.with(ctx, adminDB, func(c conn) (err error) {
		databases, err = c.column(ctx, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname")
		return err
	})
	if err != nil {
		return nil, err
	}
	var done []string
	for i, d := range databases {
		progress(fmt.Sprintf("looking after database %s", quote(d)), i*100/len(databases))
		err := p.withLong(ctx, d, func(c conn) error {
			said, err := c.finish(ctx, d, k.Analyse)
			done = append(done, said...)
			return err
		})
		if err != nil {
			return done, err
		}
	}
	if k.Analyse {
		k.Analyse = false
		if err := p.writeKept(k); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (c conn) finish(ctx context.Context, database string, analyse bool) (done []string, err error) {
	// These statements touch the tenant's objects: what those call is found where the server itself has it, and nowhere else.
	extensions, err := c.rows(ctx, `SELECT e.extname, e.extversion, a.default_version FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
		WHERE a.default_version <> e.extversion ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("list the extensions of database %s: %w", database, err)
	}
	for _, x := range extensions {
		if err := c.exec(ctx, "ALTER EXTENSION "+quote(x[0])+" UPDATE"); err != nil {
			return done, fmt.Errorf("update extension %s in database %s: %w", x[0], database, err)
		}
		done = append(done, fmt.Sprintf("In database %s the extension %s went from version %s to %s.", quote(database), quote(x[0]), x[1], x[2]))
	}
	said, err := c.refreshCollations(ctx, database)
	done = append(done, said...)
	if err != nil || !analyse {
		return done, err
	}
	// In three stages, as vacuumdb does it: rough figures for all tables at once are better than fine ones for a few.
	for _, target := range []string{"1", "10", "DEFAULT"} {
		if err := c.exec(ctx, "SET default_statistics_target = "+target); err != nil {
			return done, err
		}
		if err := c.exec(ctx, "ANALYZE"); err != nil {
			return done, fmt.Errorf("make the statistics of database %s: %w", database, err)
		}
	}
	return append(done, fmt.Sprintf("The statistics of database %s were made.", quote(database))), nil
}

// stale are the collations whose library orders differently than when they were noted, the database's own as "default".
const stale = `SELECT c.oid FROM pg_collation c WHERE c.collversion IS NOT NULL AND c.collversion <> pg_collation_actual_version(c.oid)
	UNION ALL SELECT 'pg_catalog."default"'::regcollation FROM pg_database d
	WHERE d.datname = current_database() AND d.datcollversion IS NOT NULL AND d.datcollversion <> pg_database_collation_actual_version(d.oid)`

// staleIndexes are the indexes that depend on them: by a column, by an expression or a condition, or because the column's own collation is the database's.
const staleIndexes = `WITH stale AS (` + stale + `) SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(r.relname)
	FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid JOIN pg_namespace n ON n.oid = r.relnamespace
	WHERE r.relkind = 'i' AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_temp' AND (i.indcollation::oid[] && ARRAY(SELECT oid FROM stale)
	OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_collation'::regclass
		AND d.refobjid IN (SELECT oid FROM stale))) ORDER BY 1`

// refreshCollations makes the indexes anew whose order has changed, and notes the new versions after that: a kill between leaves them to the next time.
func (c conn) refreshCollations(ctx context.Context, database string) (done []string, err error) {
	collations, err := c.rows(ctx, "WITH stale AS ("+stale+") SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname), c.collname, c.oid::text FROM pg_collation c "+
		"JOIN stale s ON s.oid = c.oid JOIN pg_namespace n ON n.oid = c.collnamespace ORDER BY 1")
	if err != nil || len(collations) == 0 {
		return nil, err
	}
	indexes, err := c.column(ctx, staleIndexes)
	if err != nil {
		return nil, fmt.Errorf("list the indexes of database %s: %w", database, err)
	}
	for _, index := range indexes {
		if err := c.exec(ctx, "REINDEX INDEX "+index); err != nil {
			return done, fmt.Errorf("make index %s of database %s anew: %w", index, database, err)
		}
	}
	var names []string
	for _, x := range collations {
		statement := "ALTER COLLATION " + x[0] + " REFRESH VERSION"
		if x[1] == "default" {
			statement = "ALTER DATABASE " + quote(database) + " REFRESH COLLATION VERSION"
		}
		if err := c.exec(ctx, statement); err != nil {
			return done, fmt.Errorf("note the version of collation %s in database %s: %w", x[0], database, err)
		}
		names = append(names, x[0])
	}
	return append(done, fmt.Sprintf("In database %s the order of %s has changed; %d indexes were made anew.", quote(database), strings.Join(names, ", "), len(indexes))), nil
}

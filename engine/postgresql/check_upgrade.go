package postgresql

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// maxFindings bounds the names in a sentence.
const maxFindings = 10

// question is something that is asked in the server or in each database before an upgrade. What it returns is named in the sentence.
type question struct {
	query    string
	sentence string // with %s for the names
	blocks   bool
	since    int // only for changes to this version or a newer one,
	before   int // from one before this; 0: any
}

var serverQuestions = []question{
	{
		query: "SELECT quote_literal(gid) FROM pg_prepared_xacts ORDER BY 1", blocks: true,
		sentence: "There are prepared transactions (%s): commit them or roll them back.",
	},
	{
		query: "SELECT quote_ident(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1", blocks: true,
		sentence: "There are logical replication slots (%s), which would be lost: drop them.",
	},
	{
		query:    "SELECT quote_ident(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' ORDER BY 1",
		sentence: "Physical replication slots are lost: %s.",
	},
	{
		query: "SELECT quote_ident(datname) FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' ORDER BY 1", blocks: true,
		sentence: "Nobody can connect to these databases: %s. Drop them, or allow it.",
	},
}

// types are columns of types whose stored form the new server would not read: numbers of objects that get other numbers.
var databaseQuestions = []question{
	{
		query: columnsOf("'regcollation','regconfig','regdictionary','regnamespace','regoper','regoperator','regproc','regprocedure'"), blocks: true,
		sentence: "In database %s there are columns of types that name objects by their numbers, which change: %s. Make them text, or drop them.",
	},
	{
		query: columnsOf("'aclitem'"), blocks: true, since: 16, before: 16,
		sentence: "In database %s there are columns of the type aclitem, whose form has changed: %s. Drop them.",
	},
	{
		query: "SELECT quote_ident(extname) FROM pg_extension WHERE extname IN ('adminpack', 'old_snapshot') ORDER BY 1", blocks: true, since: 17, before: 17,
		sentence: "In database %s there are extensions that the new version does not have: %s. Drop them.",
	},
	{
		query:    `SELECT quote_ident(collname) FROM pg_collation WHERE collversion IS DISTINCT FROM pg_collation_actual_version(oid) AND collversion IS NOT NULL ORDER BY 1`,
		sentence: "In database %s the order of these collations has changed since indexes were made: %s. They are made anew after the upgrade.",
	},
	{
		query: `SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relpersistence = 'u' AND c.relkind = 'r' ORDER BY 1`,
		sentence: "In database %s tables are unlogged, and are empty after a crash as ever: %s.",
	},
}

// columnsOf lists columns of users' tables, indexes and views with these types of the system's.
func columnsOf(types string) string {
	return `SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) || '.' || quote_ident(a.attname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
		WHERE c.relkind IN ('r', 'm', 'i') AND NOT a.attisdropped AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
		AND t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN (` + types + `) ORDER BY 1`
}

// CheckUpgrade implements engine.Upgrader. pg_upgrade itself asks once more when the server is down, about the libraries of extensions too.
func (e *Engine) CheckUpgrade(ctx context.Context, l engine.Layout, version string) ([]engine.Finding, error) {
	p := place{l}
	first, _, _ := strings.Cut(version, ".")
	to, err := strconv.Atoi(first)
	if err != nil {
		return nil, trove.Errorf(trove.KindBadRequest, "%q is no version of PostgreSQL.", version)
	}
	from, err := p.major()
	if err != nil {
		return nil, err
	}
	if to < from {
		return []engine.Finding{{Blocks: true, Sentence: fmt.Sprintf("The data is of PostgreSQL %d, which is newer than %d: there is no way back to an older version but a backup.", from, to)}}, nil
	}
	var findings []engine.Finding
	var databases []string
	err = p.with(ctx, adminDB, func(c conn) (err error) {
		if to > from {
			if findings, err = c.ask(ctx, findings, serverQuestions, from, to); err != nil {
				return err
			}
		}
		databases, err = c.column(ctx, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname")
		return err
	})
	if err != nil || to == from {
		return findings, err
	}
	for _, d := range databases {
		err := p.with(ctx, d, func(c conn) (err error) {
			findings, err = c.ask(ctx, findings, databaseQuestions, from, to, quote(d))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return findings, nil
}

func (c conn) ask(ctx context.Context, findings []engine.Finding, questions []question, from, to int, where ...any) ([]engine.Finding, error) {
	for _, q := range questions {
		if to < q.since || q.before > 0 && from >= q.before {
			continue
		}
		names, err := c.column(ctx, q.query)
		if err != nil {
			return nil, fmt.Errorf("ask what is in the way of an upgrade: %w", err)
		}
		if len(names) == 0 {
			continue
		}
		text := strings.Join(names[:min(len(names), maxFindings)], ", ")
		if len(names) > maxFindings {
			text += fmt.Sprintf(" and %d more", len(names)-maxFindings)
		}
		findings = append(findings, engine.Finding{Blocks: q.blocks, Sentence: fmt.Sprintf(q.sentence, append(where, text)...)})
	}
	return findings, nil
}

package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// runner runs statements; the rebound, prepared ones are kept.
type runner interface {
	exec(ctx context.Context, query string, args ...any) (int64, error)
	// query returns rows that are to be read under the context of limit, and ended is told how that went.
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	row(ctx context.Context, dest []any, query string, args ...any) error
	limit(ctx context.Context) (context.Context, context.CancelFunc)
	ended(ctx context.Context, err error) error
}

// statement is a prepared statement, which the connection or the pool keeps and closes.
type statement interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, args ...any) *sql.Row
}

// errConflict is found by us rather than by the database: a row was changed between our reading and our writing.
var errConflict = errors.New("another transaction changed the row")

// swap runs a statement that changes a row only as it was read. If it is another one by now that is a conflict, and the transaction runs again.
func swap(ctx context.Context, run runner, query string, args ...any) error {
	n, err := run.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return errConflict
	}
	return err
}

// errNested would otherwise wait for the one writing connection for ever.
var errNested = errors.New("InTx inside InTx")

type inTxKey struct{}

// InTx runs fn in one transaction; see store.Store.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error {
	if ctx.Value(inTxKey{}) != nil {
		return errNested
	}
	took := clock.Stopwatch()
	timer := func(outcome string) { s.took.WithLabelValues(outcome).Observe(took().Seconds()) }
	ctx, cancel := s.dialect.limit(ctx)
	defer cancel()
	r := retries{dialect: s.dialect, patience: s.patience}
	for {
		err := s.writers.once(ctx, s, fn)
		if err == nil {
			timer("committed")
			s.commits.announce()
			return nil
		}
		wait, again := r.again(ctx, err)
		if !again {
			timer("rolled back")
			return s.dialect.explain(ctx, r.last(err))
		}
		if err := clock.Sleep(ctx, wait); err != nil {
			timer("rolled back")
			return s.dialect.explain(ctx, fmt.Errorf("wait to repeat a transaction: %w", err))
		}
	}
}

// commits tells who waits that something was written.
type commits struct {
	mu   sync.Mutex
	next chan struct{} // nil: nobody waits
}

// Committed returns a channel that is closed with the next transaction that this process commits. Other processes' are not noticed, so that it only
// shortens a wait that ends by itself. To miss nothing, ask for it before reading.
func (s *Store) Committed() <-chan struct{} {
	s.commits.mu.Lock()
	defer s.commits.mu.Unlock()
	if s.commits.next == nil {
		s.commits.next = make(chan struct{})
	}
	return s.commits.next
}

func (c *commits) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// writers are the connections that write. Each keeps its prepared statements; database/sql would prepare them anew in every transaction.
type writers struct {
	dialect *dialect
	db      *sql.DB
	free    chan *writer
	closed  sync.Once
	closing sync.WaitGroup // connections that are being closed
}

type writer struct {
	dialect *dialect
	closing *sync.WaitGroup
	conn    *sql.Conn // nil: to be opened
	stmts   map[string]*sql.Stmt
	failed  error // the first error of the running transaction
}

func newWriters(d *dialect, db *sql.DB, n int) *writers {
	ws := &writers{dialect: d, db: db, free: make(chan *writer, n)}
	for range n {
		ws.free <- &writer{dialect: d, closing: &ws.closing}
	}
	return ws
}

func (ws *writers) close() {
	ws.closed.Do(func() {
		for range cap(ws.free) {
			(<-ws.free).drop()
		}
		ws.closing.Wait()
		close(ws.free)
	})
}

func (ws *writers) once(ctx context.Context, s *Store, fn func(context.Context, store.Tx) error) (err error) {
	var w *writer
	var open bool
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for a writing connection of the store: %w", context.Cause(ctx))
	case w, open = <-ws.free:
		if !open {
			return sql.ErrConnDone
		}
	}
	defer func() { ws.free <- w }()
	defer func() {
		if err != nil && ws.dialect.lost(err) {
			w.drop()
			ws.dropIdle()
		}
	}()
	if err := w.begin(ctx, ws.db); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			w.rollback(ctx) // also when fn panics
		}
	}()
	if err := fn(context.WithValue(ctx, inTxKey{}, true), &tx{reader{run: w, quotas: s.quotas}}); err != nil {
		return err
	}
	if w.failed != nil {
		return fmt.Errorf("commit after a failed statement: %w", w.failed)
	}
	if err := w.commit(ctx); err != nil {
		return err
	}
	done = true
	return nil
}

// dropIdle closes the connections that nobody uses: when one is lost, the others mostly are too.
func (ws *writers) dropIdle() {
	var idle []*writer
	defer func() {
		for _, w := range idle {
			ws.free <- w
		}
	}()
	for range cap(ws.free) {
		select {
		case w, open := <-ws.free:
			if !open {
				return
			}
			w.drop()
			idle = append(idle, w)
		default:
			return
		}
	}
}

func (w *writer) begin(ctx context.Context, db *sql.DB) error {
	w.failed = nil
	if w.conn == nil {
		conn, err := db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("open the store's writing connection: %w", err)
		}
		w.conn, w.stmts = conn, map[string]*sql.Stmt{}
	}
	if err := w.control(ctx, w.dialect.begin); err != nil {
		w.rollback(ctx) // cut off by the context, it may have begun all the same
		return fmt.Errorf("begin a transaction: %w", err)
	}
	return nil
}

// control runs a statement that begins or ends a transaction. A server does not prepare them all.
func (w *writer) control(ctx context.Context, text string) error {
	if w.dialect.inside {
		_, err := w.exec(ctx, text)
		return err
	}
	_, err := w.conn.ExecContext(ctx, text, w.dialect.control...)
	return err //nolint:wrapcheck // the caller says what it was doing
}

// commit ends the transaction. If a server's answer does not come, the error is errUnknown.
func (w *writer) commit(ctx context.Context) error {
	if !w.dialect.inside {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
		defer cancel()
	}
	err := w.control(ctx, `COMMIT`)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || w.dialect.lost(err) {
		return fmt.Errorf("commit: %w: %w", errUnknown, err)
	}
	return fmt.Errorf("commit: %w", err)
}

// rollback leaves the connection without a transaction, or drops it.
func (w *writer) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	w.failed = nil
	if w.conn == nil {
		return
	}
	if err := w.control(ctx, `ROLLBACK`); err != nil {
		w.drop() // SQLite rolls back by itself after some errors and then has nothing to roll back; a new connection is right in every case
	}
}

func (w *writer) drop() {
	if w.conn == nil {
		return
	}
	conn, stmts := w.conn, w.stmts
	w.conn, w.stmts = nil, nil
	end := func() {
		for _, st := range stmts {
			st.Close() //nolint:errcheck // the connection goes with it
		}
		conn.Close() //nolint:errcheck // it was of no use any more
	}
	if w.dialect.inside {
		end()
		return
	}
	// Nobody waits for it: a server that has become mute is told goodbye for seconds.
	w.closing.Go(func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // else the pool would hand it out again
		end()
	})
}

func (w *writer) prepare(ctx context.Context, query string) (statement, error) {
	if w.failed != nil { // as PostgreSQL has it: nothing more happens in a transaction that failed
		return nil, fmt.Errorf("the transaction has failed: %w", w.failed)
	}
	if st, ok := w.stmts[query]; ok {
		return st, nil
	}
	st, err := w.conn.PrepareContext(ctx, w.dialect.rebind(query))
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	w.stmts[query] = st
	return st, nil
}

func (w *writer) exec(ctx context.Context, query string, args ...any) (int64, error) {
	ctx, err := w.dialect.statementContext(ctx)
	if err != nil {
		return 0, w.fail(err)
	}
	st, err := w.prepare(ctx, query)
	if err != nil {
		return 0, w.fail(err)
	}
	res, err := st.ExecContext(ctx, args...)
	if err != nil {
		return 0, w.fail(err)
	}
	n, err := res.RowsAffected()
	return n, w.fail(err)
}

func (w *writer) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, err := w.dialect.statementContext(ctx)
	if err != nil {
		return nil, w.fail(err)
	}
	st, err := w.prepare(ctx, query)
	if err != nil {
		return nil, w.fail(err)
	}
	rows, err := st.QueryContext(ctx, args...)
	return rows, w.fail(err)
}

func (w *writer) row(ctx context.Context, dest []any, query string, args ...any) error {
	ctx, err := w.dialect.statementContext(ctx)
	if err != nil {
		return w.fail(err)
	}
	st, err := w.prepare(ctx, query)
	if err != nil {
		return w.fail(err)
	}
	err = st.QueryRowContext(ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return w.fail(err)
}

func (w *writer) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return ctx, func() {} // the whole transaction has one
}

func (w *writer) ended(_ context.Context, err error) error { return w.fail(err) }

func (w *writer) fail(err error) error {
	if err != nil && w.failed == nil {
		w.failed = err
	}
	return err
}

// pooled runs reads outside of transactions.
type pooled struct {
	dialect  *dialect
	db       *sql.DB
	patience time.Duration
	stmts    sync.Map // text to *sql.Stmt
}

func (p *pooled) prepare(ctx context.Context, query string) (statement, error) {
	if st, ok := p.stmts.Load(query); ok {
		return st.(statement), nil
	}
	st, err := p.db.PrepareContext(ctx, p.dialect.rebind(query))
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	if old, loaded := p.stmts.LoadOrStore(query, st); loaded {
		st.Close() //nolint:errcheck,sqlclosecheck // the other one is used; this one would otherwise be kept
		return old.(statement), nil
	}
	return st, nil
}

func (p *pooled) exec(ctx context.Context, query string, args ...any) (int64, error) {
	return 0, errors.New("a write outside a transaction: " + query)
}

func (p *pooled) query(ctx context.Context, query string, args ...any) (rows *sql.Rows, err error) {
	err = p.repeat(ctx, func(ctx context.Context) error {
		st, err := p.prepare(ctx, query)
		if err != nil {
			return err
		}
		rows, err = st.QueryContext(ctx, args...) //nolint:rowserrcheck,sqlclosecheck // list does both
		return err
	})
	return rows, err
}

func (p *pooled) row(ctx context.Context, dest []any, query string, args ...any) error {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	return p.repeat(ctx, func(ctx context.Context) error {
		st, err := p.prepare(ctx, query)
		if err != nil {
			return err
		}
		return st.QueryRowContext(ctx, args...).Scan(dest...)
	})
}

// repeat runs a read, which may be done any number of times, until it succeeds or there is no hope.
func (p *pooled) repeat(ctx context.Context, read func(ctx context.Context) error) error {
	r := retries{dialect: p.dialect, patience: p.patience}
	for {
		inner, err := p.dialect.statementContext(ctx)
		if err == nil {
			err = read(inner)
		}
		if err == nil || errors.Is(err, sql.ErrNoRows) {
			return err
		}
		wait, again := r.again(ctx, err)
		if !again {
			return p.dialect.explain(ctx, err)
		}
		if err := clock.Sleep(ctx, wait); err != nil {
			return p.dialect.explain(ctx, fmt.Errorf("wait to repeat a read: %w", err))
		}
	}
}

func (p *pooled) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return p.dialect.limit(ctx)
}

func (p *pooled) ended(ctx context.Context, err error) error { return p.dialect.explain(ctx, err) }

// reader implements store.Reader inside and outside of transactions.
type reader struct {
	run    runner
	quotas map[string]int
	cache  *instanceCache // nil inside a transaction, which may read what is never committed
}

// tx implements store.Tx.
type tx struct{ reader }

// list reads rows until the end; scan is called once for each.
func list(ctx context.Context, run runner, scan func(*sql.Rows) error, query string, args ...any) error {
	ctx, cancel := run.limit(ctx)
	defer cancel()
	rows, err := run.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err says more
	for rows.Next() {
		if err := ctx.Err(); err != nil { // the statement itself may not be cut off
			return err
		}
		if err := scan(rows); err != nil {
			return err
		}
	}
	return run.ended(ctx, rows.Err())
}

// put updates the row that the arguments name or inserts it. The key's arguments are the last ones of the update.
func put(ctx context.Context, run runner, update, insert string, args ...any) error {
	n, err := run.exec(ctx, update, args...)
	if err != nil || n > 0 {
		return err
	}
	_, err = run.exec(ctx, insert, args...)
	return err
}

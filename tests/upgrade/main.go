// Command upgrade measures a change of datastore version on a running deployment, and the way back: a database of a given size with an index on text that is
// not ASCII, and a client that writes 20 times a second. It compares the rows by checksum, looks for every write that was acknowledged, and prints how
// long writes had to wait as a table in Markdown.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// password of the database's user, made anew for each run.
var password = rand.Text()

// settings are what the flags say.
type settings struct {
	datastore, from, to, flavor string
	mib                         int
	limit                       time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.datastore, "datastore", "mariadb", "what is upgraded")
	flag.StringVar(&s.from, "from", "10.11", "the version before")
	flag.StringVar(&s.to, "to", "11.8", "the version after")
	flag.StringVar(&s.flavor, "flavor", "2", "id of the flavor")
	flag.IntVar(&s.mib, "mib", 1024, "MiB of data")
	flag.DurationVar(&s.limit, "gap", 0, "fail if writes wait for longer")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	e, ok := engines[s.datastore]
	if !ok {
		return fmt.Errorf("no statements for %s: add them to engines", s.datastore)
	}
	c, err := client.New(client.Config{
		AuthURL: os.Getenv("OS_AUTH_URL"), Username: os.Getenv("OS_USERNAME"), Password: trove.Secret(os.Getenv("OS_PASSWORD")), Project: os.Getenv("OS_PROJECT_NAME"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	defer cancel()
	i, err := create(ctx, c, s)
	if err != nil {
		return err
	}
	defer func() {
		if err := c.DeleteInstance(context.WithoutCancel(ctx), i.ID); err != nil {
			fmt.Fprintln(os.Stderr, "delete:", err)
		}
	}()
	db, err := e.open(i.Addresses[0].Address)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // the measurement is over
	b := bench{settings: s, engine: e, client: c, instance: i.ID, db: db}
	return b.measure(ctx)
}

func create(ctx context.Context, c *client.Client, s settings) (wire.Instance, error) {
	i, err := c.CreateInstance(ctx, wire.InstanceCreate{
		Name: "upgrade-bench", FlavorRef: wire.Ref(s.flavor), Volume: &wire.VolumeCreate{Size: wire.Size(2 + 2*s.mib/1024)},
		Datastore: &wire.DatastoreChoice{Type: s.datastore, Version: s.from}, Databases: []wire.DatabaseCreate{{Name: "app"}},
		Users: []wire.UserCreate{{Name: "app", Password: password, Databases: []wire.Database{{Name: "app"}}}},
	})
	if err != nil {
		return i, fmt.Errorf("create: %w", err)
	}
	if err := finish(ctx, c, i.ID); err != nil {
		return i, err
	}
	return c.Instance(ctx, i.ID)
}

// finish waits for the newest operation.
func finish(ctx context.Context, c *client.Client, instance string) error {
	ops, err := c.Operations(ctx, instance)
	if err != nil || len(ops) == 0 {
		return fmt.Errorf("find the operation: %w", err)
	}
	op := ops[0]
	for op.State == "open" {
		if op, err = c.Operation(ctx, instance, op.ID, op.Version, 30*time.Second); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
	}
	if op.State != "done" {
		return fmt.Errorf("%s failed: %s", op.Kind, op.Error)
	}
	return nil
}

type bench struct {
	settings
	engine   engine
	client   *client.Client
	instance string
	db       *sql.DB
}

// measure fills the database, upgrades it and goes back.
func (b *bench) measure(ctx context.Context) error {
	began := time.Now()
	for _, statement := range b.engine.schema {
		if _, err := b.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	var bytes int64
	for bytes < int64(b.mib)<<20 {
		if _, err := b.db.ExecContext(ctx, b.engine.fill); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		if err := b.db.QueryRowContext(ctx, b.engine.size).Scan(&bytes); err != nil {
			return fmt.Errorf("measure the data: %w", err)
		}
	}
	fmt.Fprintf(os.Stderr, "%d MiB in %s\n", bytes>>20, time.Since(began).Round(time.Second))
	rows, err := b.text(ctx, b.engine.checksum)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s %s → %s, %d MiB of data, rows and checksum %s.\n\n", b.datastore, b.from, b.to, bytes>>20, rows)
	fmt.Fprint(os.Stdout, "| change | took | longest wait of a write | writes acknowledged | server after | rows |\n| --- | --- | --- | --- | --- | --- |\n")
	w := b.write(ctx)
	defer w.stop()
	there, err := b.change(ctx, "upgrade", rows, w, func() error { return b.client.UpgradeInstance(ctx, b.instance, b.to) })
	if err != nil {
		return err
	}
	if err := w.allThere(ctx, b.db); err != nil {
		return fmt.Errorf("after the upgrade: %w", err)
	}
	back, err := b.change(ctx, "way back", rows, w, func() error { return b.client.RollbackUpgrade(ctx, b.instance) })
	if err != nil {
		return err
	}
	w.forget(there, back)
	if err := w.allThere(ctx, b.db); err != nil { // those of before the upgrade, and those of after the way back
		return fmt.Errorf("after the way back: %w", err)
	}
	return nil
}

func (b *bench) text(ctx context.Context, query string) (string, error) {
	var s string
	if err := b.db.QueryRowContext(ctx, query).Scan(&s); err != nil {
		return "", fmt.Errorf("%s: %w", query, err)
	}
	return s, nil
}

// change does one change under the writer and prints its row. It returns when the writes stood still.
func (b *bench) change(ctx context.Context, name, rows string, w *writer, ask func() error) (still time.Time, err error) {
	time.Sleep(2 * time.Second) // writes of before
	began := time.Now()
	if err := ask(); err != nil {
		return still, fmt.Errorf("%s: %w", name, err)
	}
	if err := finish(ctx, b.client, b.instance); err != nil {
		return still, err
	}
	took := time.Since(began)
	time.Sleep(2 * time.Second) // writes of after
	gap, still := w.longest(began)
	version, err := b.text(ctx, b.engine.version)
	if err != nil {
		return still, err
	}
	now, err := b.text(ctx, b.engine.checksum)
	if err != nil {
		return still, err
	}
	same := "equal"
	if now != rows {
		same = "**other: " + now + "**"
	}
	fmt.Fprintf(os.Stdout, "| %s | %.1f s | %.1f s | %d | %s | %s |\n", name, took.Seconds(), gap.Seconds(), w.count(), version, same)
	if now != rows {
		err = errors.New("the rows are not those of before")
	}
	if b.limit > 0 && gap > b.limit {
		err = errors.Join(err, fmt.Errorf("writes waited for %s", gap))
	}
	return still, err
}

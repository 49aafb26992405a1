// Command provision measures how long a create takes, from the request to a login over TCP with the new user's password, many times, on a running
// deployment, and how long each step of it took. It prints a table in Markdown.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func main() {
	n := flag.Int("n", 50, "how many creates")
	limit50 := flag.Duration("p50", 0, "fail if the median is above")
	limit99 := flag.Duration("p99", 0, "fail if the 99th percentile is above")
	flag.StringVar(&datastore, "datastore", "mariadb", "what is created")
	flag.StringVar(&version, "datastore-version", "10.11", "which version of it")
	flag.Parse()
	if err := run(*n, *limit50, *limit99); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// password of the databases' users, made anew for each run.
var password = rand.Text()

var datastore, version string

// withoutDatabases are the datastores that have no named databases.
var withoutDatabases = map[string]bool{"redis": true, "valkey": true}

func run(n int, limit50, limit99 time.Duration) error {
	c, err := client.New(client.Config{
		AuthURL: os.Getenv("OS_AUTH_URL"), Username: os.Getenv("OS_USERNAME"), Password: trove.Secret(os.Getenv("OS_PASSWORD")),
		Project: os.Getenv("OS_PROJECT_NAME"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*time.Minute)
	defer cancel()
	steps := map[string][]time.Duration{}
	var order []string
	var totals []time.Duration
	for i := range n {
		total, events, err := one(ctx, c, fmt.Sprintf("provision-%d", i))
		if err != nil {
			return err
		}
		totals = append(totals, total)
		for name, took := range stepTimes(events, &order) {
			steps[name] = append(steps[name], took)
		}
		fmt.Fprintf(os.Stderr, "%d/%d: %s\n", i+1, n, total.Round(time.Millisecond))
	}
	fmt.Fprintf(os.Stdout, "| step | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- |\n")
	row := func(name string, times []time.Duration) {
		fmt.Fprintf(os.Stdout, "| %s | %.1f | %.1f | %.1f |\n", name, ms(quantile(times, 0.5)), ms(quantile(times, 0.99)), ms(quantile(times, 1)))
	}
	for _, name := range order {
		row(name, steps[name])
	}
	row(fmt.Sprintf("**create to login, %d times**", n), totals)
	if limit50 > 0 && quantile(totals, 0.5) > limit50 || limit99 > 0 && quantile(totals, 0.99) > limit99 {
		return fmt.Errorf("slower than the limits: p50 %s, p99 %s", limit50, limit99)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantile is the nearest rank.
func quantile(times []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(0, int(float64(len(sorted))*q+0.999999)-1)]
}

// one creates an instance, waits with the long poll as --wait does, logs in, and removes it.
func one(ctx context.Context, c *client.Client, name string) (time.Duration, []wire.OperationEvent, error) {
	begin := time.Now()
	wish := wire.InstanceCreate{
		Name: name, FlavorRef: "1", Volume: &wire.VolumeCreate{Size: 1}, Datastore: &wire.DatastoreChoice{Type: datastore, Version: version},
		Users: []wire.UserCreate{{Name: "app", Password: password}},
	}
	if !withoutDatabases[datastore] {
		wish.Databases, wish.Users[0].Databases = []wire.DatabaseCreate{{Name: "app"}}, []wire.Database{{Name: "app"}}
	}
	i, err := c.CreateInstance(ctx, wish)
	if err != nil {
		return 0, nil, fmt.Errorf("create: %w", err)
	}
	op, err := finish(ctx, c, i.ID)
	if err != nil {
		return 0, nil, err
	}
	if i, err = c.Instance(ctx, i.ID); err != nil {
		return 0, nil, fmt.Errorf("show: %w", err)
	}
	if err := login(ctx, i); err != nil {
		return 0, nil, fmt.Errorf("log in: %w", err)
	}
	total := time.Since(begin)
	if err := c.DeleteInstance(ctx, i.ID); err != nil {
		return 0, nil, fmt.Errorf("delete: %w", err)
	}
	for !client.IsNotFound(err) {
		time.Sleep(20 * time.Millisecond)
		_, err = c.Instance(ctx, i.ID)
		if ctx.Err() != nil {
			return 0, nil, fmt.Errorf("wait for the deletion: %w", err)
		}
	}
	return total, op.Events, nil
}

func finish(ctx context.Context, c *client.Client, instance string) (wire.Operation, error) {
	ops, err := c.Operations(ctx, instance)
	if err != nil || len(ops) == 0 {
		return wire.Operation{}, fmt.Errorf("find the operation: %w", err)
	}
	op := ops[0]
	for op.State == "open" {
		if op, err = c.Operation(ctx, instance, op.ID, op.Version, 30*time.Second); err != nil {
			return op, fmt.Errorf("wait: %w", err)
		}
	}
	if op.State != "done" {
		return op, fmt.Errorf("the create failed: %s", op.Error)
	}
	return op, nil
}

func login(ctx context.Context, i wire.Instance) error {
	address := i.Addresses[0].Address
	switch datastore {
	case "postgresql":
		conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s user=app password=%s dbname=app sslmode=require", address, password))
		if err != nil {
			return err
		}
		return errors.Join(conn.Ping(ctx), conn.Close(ctx))
	case "redis", "valkey":
		return loginRedis(ctx, net.JoinHostPort(address, "6379"))
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName, cfg.TLSConfig = "app", password, "tcp", net.JoinHostPort(address, "3306"), "app", "skip-verify"
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	var one int
	return db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// loginRedis sends two inline commands (the protocol's own form for people and programs without a library) and reads their answers.
func loginRedis(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "AUTH app %s\r\nPING\r\n", password); err != nil {
		return err
	}
	answers := bufio.NewScanner(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		if !answers.Scan() || answers.Text() != want {
			return fmt.Errorf("the server answered %q, want %s", answers.Text(), want)
		}
	}
	return nil
}

// stepTimes returns how long each step took, from its start to the next step's.
func stepTimes(events []wire.OperationEvent, order *[]string) map[string]time.Duration {
	started := map[string]time.Time{}
	took := map[string]time.Duration{}
	for _, e := range events {
		switch strings.ToLower(e.Outcome) {
		case "started":
			started[e.Step] = e.At
			if !slices.Contains(*order, e.Step) {
				*order = append(*order, e.Step)
			}
		case "done":
			took[e.Step] = e.At.Sub(started[e.Step])
		}
	}
	return took
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// password of the user that the load runs as.
var password = rand.Text()

// secretFile writes what a program reads its password from.
func secretFile(content string) (path string, remove func(), err error) {
	f, err := os.CreateTemp("", "agentcost") // it is made 0600
	if err != nil {
		return "", nil, err
	}
	_, err = f.WriteString(content)
	return f.Name(), func() { _ = os.Remove(f.Name()) }, errors.Join(err, f.Close())
}

// loader is an engine's usual benchmark.
type loader struct {
	databases bool
	prepare   func(ctx context.Context, host string) error
	load      func(ctx context.Context, host string, seconds int) (done string, err error)
}

var loaders = map[string]loader{
	"mariadb": {true, prepareSysbench, runSysbench}, "mysql": {true, prepareSysbench, runSysbench},
	"postgresql": {true, preparePgbench, runPgbench},
	"redis":      {false, func(context.Context, string) error { return nil }, runRedis}, "valkey": {false, func(context.Context, string) error { return nil }, runRedis},
}

func sysbench(ctx context.Context, host, what string, seconds int) (string, error) {
	file, remove, err := secretFile("mysql-password=" + password + "\n")
	if err != nil {
		return "", err
	}
	defer remove()
	return command(ctx, nil, "sysbench", "--config-file="+file, "--db-driver=mysql", "--mysql-host="+host, "--mysql-user=app", "--mysql-db=app",
		"--tables=2", "--table-size=20000", "--threads=2", "--time="+strconv.Itoa(seconds), "oltp_read_write", what)
}

func prepareSysbench(ctx context.Context, host string) error {
	_, err := sysbench(ctx, host, "prepare", 0)
	return err
}

var sysbenchRate = regexp.MustCompile(`transactions:.*\((.*) per sec`)

func runSysbench(ctx context.Context, host string, seconds int) (string, error) {
	out, err := sysbench(ctx, host, "run", seconds)
	return found(out, sysbenchRate, "transactions/s"), err
}

func pgbench(ctx context.Context, host string, args ...string) (string, error) {
	file, remove, err := secretFile("*:*:*:*:" + password + "\n")
	if err != nil {
		return "", err
	}
	defer remove()
	return command(ctx, []string{"PGPASSFILE=" + file, "PGSSLMODE=require"}, "pgbench", append([]string{"--host=" + host, "--username=app"}, append(args, "app")...)...)
}

func preparePgbench(ctx context.Context, host string) error {
	_, err := pgbench(ctx, host, "--initialize", "--scale=5", "--quiet")
	return err
}

var pgbenchRate = regexp.MustCompile(`tps = ([0-9.]+)`)

func runPgbench(ctx context.Context, host string, seconds int) (string, error) {
	out, err := pgbench(ctx, host, "--client=2", "--jobs=1", "--time="+strconv.Itoa(seconds))
	return found(out, pgbenchRate, "transactions/s"), err
}

var redisRate = regexp.MustCompile(`(?m)^"SET","([0-9.]+)"`)

func runRedis(ctx context.Context, host string, seconds int) (string, error) {
	// The program knows no other way to hand over a password; it is made anew for each run and gone with the instance.
	requests := strconv.Itoa(seconds * 20_000)
	out, err := command(ctx, nil, "redis-benchmark", "-h", host, "--user", "app", "-a", password, "-t", "set,get", "-n", requests, "-c", "8", "--csv")
	return found(out, redisRate, "SET/s"), err
}

func found(out string, pattern *regexp.Regexp, unit string) string {
	m := pattern.FindStringSubmatch(out)
	if m == nil {
		return "?"
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(m[1]), 64)
	if err != nil {
		return "?"
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}

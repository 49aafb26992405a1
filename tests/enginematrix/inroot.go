package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// result is what a run of a driver's tests came to.
type result struct {
	passed, failed, skipped int
	skips                   []string
	took                    time.Duration
	ended                   error // of the program
	events                  []byte
}

// inRoot runs a program in a root file system. Mounts, processes and the loopback interface are its own and end with it. As in a guest the root is
// read-only and /dev has few nodes; /tmp and /run are in memory.
const inRoot = `set -eu
root=$1 bin=$2 dir=$3
shift 3
ip link set lo up
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777,size=4g tmpfs "$root/tmp"
mount -t proc none "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for d in null zero full random urandom tty; do
	: >"$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mkdir "$root/run/package"
mount --bind "$dir" "$root/run/package"
mount -o remount,bind,ro "$root/run/package"
cp "$bin" "$root/run/driver.test"
exec chroot "$root" /bin/sh -c 'cd /run/package && exec "$@"' sh /run/driver.test "$@"
`

// testTimeout bounds the tests of one version.
const testTimeout = 10 * time.Minute

func runTests(ctx context.Context, o options, work string, r *row) {
	began := time.Now()
	defer func() { r.result.took = time.Since(began) }()
	dir, err := filepath.Abs(filepath.Join("engine", r.Manager))
	if err != nil {
		r.err = err
		return
	}
	args := []string{
		"--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "sh", "-c", inRoot, "inroot", r.root.Dir, binary(work, r.Manager), dir,
		"-test.v=test2json", "-test.timeout=" + testTimeout.String(),
	}
	if o.run != "" {
		args = append(args, "-test.run="+o.run)
	}
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/tmp", "TMPDIR=/tmp"}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	r.result.ended = cmd.Run()
	if r.err = r.result.read(ctx, r.Datastore+"-"+r.Version, said.Bytes()); r.err == nil && r.result.ended != nil {
		report(os.Stderr, r, said.String())
	}
}

// read turns what the test program said into events and counts them.
func (r *result) read(ctx context.Context, name string, said []byte) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", "engine/"+name)
	cmd.Stdin = bytes.NewReader(said)
	var err error
	if r.events, err = cmd.Output(); err != nil {
		return fmt.Errorf("read the tests' output: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(r.events))
	for {
		var e struct{ Action, Test string }
		if err := dec.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("read the tests' events: %w", err)
		}
		if e.Test == "" {
			continue
		}
		switch e.Action {
		case "pass":
			r.passed++
		case "fail":
			r.failed++
		case "skip":
			r.skipped++
			r.skips = append(r.skips, e.Test)
		}
	}
	return nil
}

// report shows what failed.
func report(out io.Writer, r *row, said string) {
	var last strings.Builder
	dec := json.NewDecoder(bytes.NewReader(r.result.events))
	lines := map[string]*strings.Builder{}
	for {
		var e struct{ Action, Test, Output string }
		if dec.Decode(&e) != nil {
			break
		}
		if lines[e.Test] == nil {
			lines[e.Test] = &strings.Builder{}
		}
		lines[e.Test].WriteString(e.Output)
		if e.Action == "fail" && e.Test != "" {
			last.WriteString(lines[e.Test].String())
		}
	}
	if last.Len() == 0 { // it ended before a test did
		last.WriteString(said + lines[""].String())
	}
	fmt.Fprintf(out, "\n%s %s: %v\n%s\n", r.Datastore, r.Version, r.result.ended, last.String())
}

// writeEvents keeps the events of all rows in one file.
func writeEvents(file string, rows []row) error {
	if file == "" {
		return nil
	}
	var all []byte
	for _, r := range rows {
		all = append(all, r.result.events...)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, all, 0o644)
}

func printMatrix(out io.Writer, rows []row) {
	fmt.Fprintf(out, "\n%-11s %-8s %-44s %-9s %6s %6s %6s %8s\n", "datastore", "version", "package", "suite", "passed", "failed", "root s", "tests s")
	for _, r := range rows {
		fmt.Fprintf(out, "%-11s %-8s ", r.Datastore, r.Version)
		switch {
		case r.err != nil:
			fmt.Fprintf(out, "%-44s %-9s failed: %v\n", "", r.Suite, r.err)
		case r.unavailable != "":
			fmt.Fprintf(out, "%-44s %-9s unavailable: %s\n", "", r.Suite, r.unavailable)
		default:
			fmt.Fprintf(out, "%-44s %-9s %6d %6d %6.0f %8.0f\n", r.root.Package, r.Suite, r.result.passed, r.result.failed, r.made.Seconds(), r.result.took.Seconds())
		}
	}
}

// Command enginematrix runs the tests of the engine drivers where the drivers run: in the root file system of each recipe, without a network, on a
// read-only root as in a guest, with that version's own programs and libraries. It prints a row for each version; any failed or skipped test fails it.
// A version of the unstable suite alone, which moves, may be unavailable; the row has the reason. scripts/enginetest.sh runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/image"
)

type options struct {
	cache   string
	engine  string // a datastore or a manager; "": all
	version string
	run     string
	json    string
	locks   string
	jobs    int
}

// row is a line of the matrix.
type row struct {
	image.Recipe
	root        image.Root
	unavailable string
	err         error
	made        time.Duration // the root file system
	result      result
}

func main() {
	var o options
	flag.StringVar(&o.cache, "cache", "", "directory of root file systems (required)")
	flag.StringVar(&o.engine, "engine", "", "this datastore alone, or those of this driver")
	flag.StringVar(&o.version, "version", "", "this version alone")
	flag.StringVar(&o.run, "run", "", "tests to run, as go test -run")
	flag.StringVar(&o.json, "json", "", "file for the tests' events")
	flag.StringVar(&o.locks, "update-locks", "", "directory to write the recipes' locks to, of what the archive has now")
	flag.IntVar(&o.jobs, "jobs", 2, "versions at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	rows, err := choose(o)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "enginematrix")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := compile(ctx, work, rows); err != nil {
		return err
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, o.jobs)
	for i := range rows {
		makeRoot(ctx, o, &rows[i]) // one at a time: the cache has a lock
		if rows[i].err != nil || rows[i].unavailable != "" {
			continue
		}
		free <- struct{}{}
		wg.Go(func() {
			runTests(ctx, o, work, &rows[i])
			<-free
		})
	}
	wg.Wait()
	if err := writeEvents(o.json, rows); err != nil {
		return err
	}
	printMatrix(out, rows)
	return verdict(ctx, rows)
}

// choose returns the rows that are asked for.
func choose(o options) ([]row, error) {
	all, err := image.Recipes()
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, r := range all {
		if (o.engine == "" || o.engine == r.Datastore || o.engine == r.Manager) && (o.version == "" || o.version == r.Version) {
			rows = append(rows, row{Recipe: r})
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no recipe is for %s %s: see trove image recipes", o.engine, o.version)
	}
	return rows, nil
}

// binary is the driver's tests as a program that needs no library.
func binary(work, manager string) string { return filepath.Join(work, manager+".test") }

func compile(ctx context.Context, work string, rows []row) error {
	var done []string
	for _, r := range rows {
		if slices.Contains(done, r.Manager) {
			continue
		}
		done = append(done, r.Manager)
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary(work, r.Manager), "./engine/"+r.Manager)
		cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build the tests of the driver %s: %w", r.Manager, err)
		}
	}
	return nil
}

// unstable is the suite whose packages come and go.
const unstable = "sid"

// makeRoot makes or finds the root file system.
func makeRoot(ctx context.Context, o options, r *row) {
	began := time.Now()
	spec := image.RootSpec{Datastore: r.Datastore, Version: r.Version, CacheDir: o.cache}
	spec.Progress = progress(os.Stderr, r.Datastore+" "+r.Version)
	if o.locks != "" {
		spec.UpdateLock = filepath.Join(o.locks, r.Datastore+"-"+r.Version+".json")
	}
	r.root, r.err = image.EnsureRoot(ctx, spec)
	r.made = time.Since(began)
	if r.Suite == unstable && r.err != nil && ctx.Err() == nil && trove.KindOf(r.err) == trove.KindUnavailable {
		fmt.Fprintln(os.Stderr, r.err)
		r.unavailable, r.err = trove.MessageOf(r.err), nil
	}
}

// progress shows a sentence when it is another one, not each of its percents.
func progress(out io.Writer, name string) func(image.Event) {
	last := -20
	return func(e image.Event) {
		if e.Percent >= last+20 || e.Percent == 70 && last != 70 {
			fmt.Fprintf(out, "%s: %d %% %s\n", name, e.Percent, e.Sentence)
			last = e.Percent
		}
	}
}

// verdict is nil if every row passed or may be unavailable.
func verdict(ctx context.Context, rows []row) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var all []error
	for _, r := range rows {
		name := r.Datastore + " " + r.Version
		switch {
		case r.err != nil:
			all = append(all, fmt.Errorf("%s: %w", name, r.err))
		case r.unavailable != "":
		case r.result.failed > 0 || r.result.ended != nil:
			all = append(all, fmt.Errorf("%s: %d tests failed", name, r.result.failed))
		case r.result.skipped > 0:
			all = append(all, fmt.Errorf("%s: %d tests were skipped, and none may be: %q", name, r.result.skipped, r.result.skips))
		case r.result.passed == 0:
			all = append(all, fmt.Errorf("%s: no test ran", name))
		}
	}
	return errors.Join(all...)
}

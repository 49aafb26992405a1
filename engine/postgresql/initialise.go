package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

const initialiseTimeout = 5 * time.Minute // a slow disk, a busy machine; it takes two seconds

// Initialised reports whether the data directory is there; it appears under its name only when it is whole.
func (e *Engine) Initialised(l engine.Layout) (bool, error) {
	return guestfiles.Exists(place{l}.dataDir())
}

// Initialise makes the system tables in a directory beside the data directory and gives it its name. What a half-done run left is removed first.
func (e *Engine) Initialise(ctx context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if done, err := e.Initialised(l); err != nil || done {
		return err
	}
	p := place{l}
	ctx, cancel := context.WithTimeoutCause(ctx, initialiseTimeout, errors.New("the data directory was not made within 5 minutes"))
	defer cancel()
	if err := p.makeCluster(ctx); err != nil {
		return err
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := os.Rename(p.newDir(), p.dataDir()); err != nil {
		return fmt.Errorf("name the data directory: %w", err)
	}
	return nil
}

// makeCluster runs initdb in the new directory. Nobody may log in by the files that it writes, which are not the ones that the server is started with.
func (p place) makeCluster(ctx context.Context) error {
	major, err := p.major()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(p.newDir()); err != nil {
		return fmt.Errorf("remove a half-made data directory: %w", err)
	}
	if err := p.ensureDirs(); err != nil {
		return err
	}
	if err := guestfiles.EnsureDir(p.newDir(), 0o700, p.UID, p.GID); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + p.newDir(), "--username=" + adminName, "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
		"--auth-local=peer", "--auth-host=reject", "--no-instructions",
	}
	if major >= firstBuiltin {
		args = append(args, "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
	}
	if err := p.run(ctx, "", "initdb", args...); err != nil {
		return fmt.Errorf("make the system tables: %w", err)
	}
	return nil
}

// firstBuiltin is the version that has a locale provider of its own: its C.UTF-8 does not change with the C library.
const firstBuiltin = 17

// settling is what every data directory of ours has. Nothing is created: what a server for one user creates here gets numbers of the system's own objects, and
// pg_upgrade would leave it behind. Nobody keeps template1 busy, which CREATE DATABASE copies where somebody makes one by SQL.
var settling = []string{
	"REVOKE ALL ON DATABASE template1 FROM PUBLIC",
	"REVOKE ALL ON DATABASE " + adminDB + " FROM PUBLIC",
	"GRANT CONNECT ON DATABASE " + adminDB + " TO PUBLIC",
}

// settle runs the server on the new directory for one user, without a network: a statement a line, and it ends with the last.
func (p place) settle(ctx context.Context) error {
	if err := p.run(ctx, strings.Join(settling, "\n")+"\n", "postgres", "--single", "-D", p.newDir(), "-c", "exit_on_error=on", adminDB); err != nil {
		return fmt.Errorf("settle the system tables: %w", err)
	}
	return nil
}

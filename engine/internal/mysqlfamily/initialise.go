package mysqlfamily

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
)

const (
	initialiseTimeout = 5 * time.Minute // a slow disk, a busy machine; it takes a second
	initialisePoll    = 10 * time.Millisecond
)

// Initialised reports whether the data directory is there; it appears under its name only when it is whole.
func (e *Engine) Initialised(l engine.Layout) (bool, error) {
	return guestfiles.Exists(e.Place(l).DataDir())
}

// Initialise makes the system tables in a directory beside the data directory, starts a server on it once, so that it makes its files, stops it
// with everything written back, and gives the directory its name. What a half-done run left is removed first.
func (e *Engine) Initialise(ctx context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if done, err := e.Initialised(l); err != nil || done {
		return err
	}
	p := e.Place(l)
	fresh := p.DataDir() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove a half-made data directory: %w", err)
	}
	if err := p.ensureDirs(); err != nil {
		return err
	}
	if err := guestfiles.EnsureDir(fresh, 0o700, l.UID, l.GID); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, initialiseTimeout, errors.New("the data directory was not made within 5 minutes"))
	defer cancel()
	program, args := p.product.SystemTables(p, fresh)
	_, err := execx.Run(ctx, execx.Cmd{Path: p.Program(program), Args: args, Attr: p.AsEngine(), Dir: "/"})
	if err != nil {
		return fmt.Errorf("make the system tables: %w", err)
	}
	if err := e.settle(ctx, p, fresh); err != nil {
		return err
	}
	for _, pattern := range p.product.Leftovers {
		found, err := filepath.Glob(filepath.Join(fresh, pattern))
		if err != nil {
			return fmt.Errorf("tidy the data directory: %w", err)
		}
		for _, name := range found {
			if err := os.RemoveAll(name); err != nil {
				return fmt.Errorf("tidy the data directory: %w", err)
			}
		}
	}
	if err := os.Rename(fresh, p.DataDir()); err != nil {
		return fmt.Errorf("name the data directory: %w", err)
	}
	return nil
}

// AsEngine runs a program as the engine's account; somebody who is not root can only be himself.
func (p Place) AsEngine() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}}
}

// settle starts the server on the directory without a network, removes accounts that nobody asked for, and stops it.
func (e *Engine) settle(ctx context.Context, p Place, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var said bytes.Buffer
	cmd := execx.Command(ctx, execx.Cmd{
		Path: p.Program(p.product.Server),
		Args: append([]string{
			"--no-defaults", "--basedir=" + p.Program("usr"), "--datadir=" + dir, "--tmpdir=" + p.TmpDir(), "--socket=" + p.Socket(),
			"--pid-file=" + p.PIDFile(), "--skip-networking", "--skip-log-bin", "--skip-name-resolve", "--innodb-fast-shutdown=0",
			"--innodb-buffer-pool-dump-at-shutdown=0",
		}, p.product.OnceArgs...),
		Attr: p.AsEngine(), Dir: "/",
	})
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server once: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tidied := e.tidy(ctx, p, ended)
	if tidied == nil {
		tidied = cmd.Process.Signal(syscall.SIGTERM)
	} else {
		cancel()
	}
	if err := errors.Join(tidied, <-ended); err != nil {
		return fmt.Errorf("start the server once: %w: %s", err, lastBytes(said.Bytes()))
	}
	return nil
}

// tidy waits until the server answers and drops what must not be in a data directory of ours.
func (e *Engine) tidy(ctx context.Context, p Place, ended chan error) error {
	for e.Ping(ctx, p.Layout) != nil {
		select {
		case err := <-ended:
			ended <- nil // for the caller, who waits too
			return fmt.Errorf("it ended before it was ready: %w", err)
		default:
		}
		if err := clock.Sleep(ctx, initialisePoll); err != nil {
			return fmt.Errorf("wait for it to answer: %w", err)
		}
	}
	return p.With(ctx, func(db *sql.Conn) error {
		var accounts []string
		err := Texts(ctx, db, 2, func(v []string) {
			if v[1] != adminHost || v[0] != rootName && !slices.Contains(p.product.OwnUsers, v[0]) {
				accounts = append(accounts, account(v[0], v[1]))
			}
		}, p.product.SQL.Accounts)
		if err != nil {
			return fmt.Errorf("list the accounts: %w", err)
		}
		for _, a := range accounts {
			if err := Exec(ctx, db, "DROP USER "+a); err != nil {
				return fmt.Errorf("drop the account %s: %w", a, err)
			}
		}
		if err := Exec(ctx, db, "ALTER USER "+account(rootName, adminHost)+p.product.BySocket); err != nil {
			return fmt.Errorf("bind the agent's account to the socket: %w", err)
		}
		return nil
	})
}

func lastBytes(b []byte) []byte {
	const most = 2048
	return bytes.TrimSpace(b[max(0, len(b)-most):])
}

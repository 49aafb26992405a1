package redis

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
)

const (
	tryTimeout = 8 * time.Second // a trial takes 30 ms
	tryPoll    = 5 * time.Millisecond
)

// complaint finds what a start says against an option: the line of the file, and below it the reason.
var complaint = regexp.MustCompile(`(?m)^>>> '(\S+).*'\n(.+)$`)

// try starts a server with these settings that listens nowhere, in an empty directory, asks it and ends it. What it says no to would keep the real one
// from starting; what it says its parameters are is what the real one would have, defaults among them.
func (p place) try(ctx context.Context, s engine.Settings, ask func(c conn) error) error {
	options, err := p.options(s)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(p.runtime(), "trial") // in the tmpfs
	if err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chown(dir, p.UID, p.GID); err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	config, socket := filepath.Join(p.runtime(), filepath.Base(dir)+".conf"), filepath.Join(dir, "s")
	elsewhere := []option{{"port", "0"}, {"dir", dir}, {"unixsocket", socket}, {"appendonly", "no"}}
	if err := guestfiles.Write(config, lines(options, elsewhere, safe), 0o400, p.UID, p.GID); err != nil {
		return err
	}
	defer func() { _ = os.Remove(config) }()
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var said strings.Builder
	cmd := execx.Command(ctx, execx.Cmd{Path: p.program(), Args: []string{config}, Env: environment, Dir: "/", Attr: p.asEngine()})
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	err = p.askTrial(ctx, socket, ended, ask)
	cancel()
	<-ended
	if words := complaint.FindStringSubmatch(said.String()); words != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The database would not start with this value of the parameter %s: %s.", words[1], strings.TrimSuffix(words[2], "."))
	}
	return err
}

// askTrial waits until the trial answers or ends.
func (p place) askTrial(ctx context.Context, socket string, ended <-chan struct{}, ask func(c conn) error) error {
	for {
		err := p.over(ctx, socket, func(c conn) error {
			if err := c.run(ctx, "PING"); err != nil || ask == nil {
				return err
			}
			return ask(c)
		})
		if trove.KindOf(err) != trove.KindUnavailable {
			return err
		}
		select {
		case <-ended:
			return trove.Wrap(trove.KindBadRequest, err, "The database would not start with these values.")
		default:
		}
		if clock.Sleep(ctx, tryPoll) != nil {
			return trove.Wrap(trove.KindUnavailable, err, "The settings could not be tried in time.")
		}
	}
}

// asEngine runs a program as the engine's account; somebody who is not root can only be himself.
func (p place) asEngine() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}}
}

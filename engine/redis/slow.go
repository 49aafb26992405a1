package redis

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// maxSlow is how many slow commands are fetched at once; the server itself keeps 128 unless an override says otherwise, and cuts each to 4 KiB.
const maxSlow = 1024

// slowFile is in a directory of root's: the engine's account must not put a link there, since the agent writes.
func (p place) slowDir() string  { return filepath.Join(p.Data, p.product.manager+"-slow") }
func (p place) slowFile() string { return filepath.Join(p.slowDir(), "slow.log") }

// slowSeen is how far the server's memory is in the file. It is in the agent's own directory, as the file is on the volume.
func (p place) slowSeen() string { return filepath.Join(p.stateDir(), "slow.json") }

// seen is the last slow command that is in the file.
type seen struct {
	Run string `json:"run"` // of the server: the numbers begin anew with each start
	ID  int64  `json:"id"`
}

// slowCommand is an entry of SLOWLOG GET.
type slowCommand struct {
	id, at, micros int64
	words          []string
	client, name   string
}

// line writes an entry as one line: whatever a client put into a command, it makes no other.
func (s slowCommand) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %.6f s %s", time.Unix(s.at, 0).UTC().Format(time.RFC3339), float64(s.micros)/1e6, s.client)
	if s.name != "" {
		b.WriteString(" " + strconv.QuoteToASCII(s.name))
	}
	b.WriteByte(':')
	for _, w := range s.words {
		b.WriteString(" " + strconv.QuoteToASCII(w))
	}
	b.WriteByte('\n')
	return b.String()
}

// beginSlow makes the file and notes what was slow before the log was switched on, which is not in it.
func (p place) beginSlow(ctx context.Context) error {
	if err := p.appendSlow(nil); err != nil {
		return err
	}
	if err := os.Remove(p.slowSeen()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("begin the log of slow commands: %w", err)
	}
	return p.with(ctx, func(c conn) error {
		run, all, err := c.slowCommands(ctx, 1)
		if err != nil {
			return err
		}
		s := seen{Run: run, ID: -1}
		if len(all) > 0 {
			s.ID = all[0].id
		}
		return p.writeSeen(s)
	})
}

// keepSlow writes what is new. The note of how far it came is written after the lines: an agent that dies between writes them twice.
func (p place) keepSlow(ctx context.Context) error {
	last, err := p.readSeen()
	if err != nil {
		return err
	}
	return p.with(ctx, func(c conn) error {
		run, all, err := c.slowCommands(ctx, maxSlow)
		if err != nil {
			return err
		}
		if run != last.Run {
			last = seen{Run: run, ID: -1}
		}
		slices.Reverse(all) // the newest came first
		all = slices.DeleteFunc(all, func(s slowCommand) bool { return s.id <= last.ID })
		if len(all) == 0 {
			return nil
		}
		var lines bytes.Buffer
		if missing := all[0].id - last.ID - 1; missing > 0 {
			fmt.Fprintf(&lines, "(%d slow commands before this one are missing: the server has dropped them.)\n", missing)
		}
		for _, s := range all {
			if !strings.HasPrefix(s.client, p.socket()) { // the agent's own
				lines.WriteString(s.line())
			}
		}
		if err := p.appendSlow(lines.Bytes()); err != nil {
			return err
		}
		return p.writeSeen(seen{Run: run, ID: all[len(all)-1].id})
	})
}

// slowCommands returns the server's run and its newest slow commands, the newest first.
func (c conn) slowCommands(ctx context.Context, limit int) (run string, all []slowCommand, err error) {
	fields, err := c.info(ctx, "server")
	if err != nil {
		return "", nil, err
	}
	entries, err := redis.Values(c.do(ctx, "SLOWLOG", "GET", limit))
	if err != nil {
		return "", nil, fmt.Errorf("fetch the slow commands: %w", err)
	}
	for _, e := range entries {
		var s slowCommand
		parts, err := redis.Values(e, nil)
		if err == nil {
			_, err = redis.Scan(parts, &s.id, &s.at, &s.micros, &s.words, &s.client, &s.name)
		}
		if err != nil {
			return "", nil, fmt.Errorf("read a slow command: %w", err)
		}
		all = append(all, s)
	}
	return fields["run_id"], all, nil
}

// appendSlow writes lines at the end of the file, all or, on a full volume, none.
func (p place) appendSlow(lines []byte) error {
	if err := guestfiles.EnsureDir(p.slowDir(), 0o700, os.Geteuid(), os.Getegid()); err != nil {
		return err
	}
	f, err := os.OpenFile(p.slowFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write the log of slow commands: %w", err)
	}
	info, err := f.Stat()
	if err == nil && len(lines) > 0 {
		if _, err = f.Write(lines); err != nil {
			err = errors.Join(err, f.Truncate(info.Size()))
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the log of slow commands: %w", err)
	}
	return nil
}

func (p place) readSeen() (s seen, err error) {
	data, err := os.ReadFile(p.slowSeen())
	if errors.Is(err, fs.ErrNotExist) {
		return seen{}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return seen{}, fmt.Errorf("read how far the log of slow commands is: %w", err)
	}
	return s, nil
}

func (p place) writeSeen(s seen) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("note how far the log of slow commands is: %w", err)
	}
	return atomicfile.Write(p.slowSeen(), data, 0o600)
}

package guestagent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
)

const (
	logSegment = 1_000_000 // bytes of one object, as in Trove
	maxHeader  = 4096      // bytes of the first line that are looked at
	// logLimit is how large a log that a user switched on may become; above it the older part is dropped. It shares the volume with the data.
	logLimit = 64 << 20
	// publishReserve is left of the command's time for its answer.
	publishReserve = 5 * time.Second
)

// logSource returns the engine's logs, NotImplemented if it has none.
func (a *Agent) logSource() (engine.LogSource, error) {
	s, ok := a.cfg.Engine.(engine.LogSource)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "This database has no logs that can be shown.")
	}
	return s, nil
}

func (a *Agent) findLog(ctx context.Context, name string) (engine.Log, error) {
	s, err := a.logSource()
	if err != nil {
		return engine.Log{}, err
	}
	a.keepLogs(ctx)
	all, err := s.Logs(ctx, a.cfg.Layout)
	if err != nil {
		return engine.Log{}, fmt.Errorf("list the logs: %w", err)
	}
	for _, l := range all {
		if l.Name == name {
			return l, nil
		}
	}
	return engine.Log{}, trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
}

// listLogs answers CmdLogs. The engine need not be up: a log is wanted most when it is not.
func listLogs(ctx context.Context, a *Agent, _ guestapi.Request) (any, error) {
	s, err := a.logSource()
	if err != nil {
		return nil, err
	}
	a.keepLogs(ctx)
	all, err := s.Logs(ctx, a.cfg.Layout)
	if err != nil {
		return nil, fmt.Errorf("list the logs: %w", err)
	}
	states := make([]guestapi.LogState, 0, len(all))
	for _, l := range all {
		state := guestapi.LogState{Name: l.Name, System: l.System, Enabled: l.Enabled, File: l.Path}
		f, err := openLog(l.Path)
		if err != nil {
			return nil, err
		}
		if f != nil {
			state.Size, state.Header, err = f.look()
			f.Close()
			if err != nil {
				return nil, err
			}
		}
		states = append(states, state)
	}
	return states, nil
}

func setLog(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.SetLogArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	s, err := a.logSource()
	if err != nil {
		return nil, err
	}
	return nil, s.SetLog(ctx, a.cfg.Layout, args.Name, args.On)
}

// logFile is an open log.
type logFile struct{ *os.File }

// openLog opens a log; nil if there is none yet. The engine's account may write beside it, so no link is followed.
func openLog(path string) (*logFile, error) {
	f, err := openPlain(path, unix.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open a log: %w", err)
	}
	return &logFile{f}, nil
}

// look returns the size and what tells this file from one that was begun anew under its name.
func (f *logFile) look() (size int64, header string, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, "", fmt.Errorf("read a log: %w", err)
	}
	first := make([]byte, maxHeader)
	n, err := f.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, "", fmt.Errorf("read a log: %w", err)
	}
	first = first[:n]
	if end := bytes.IndexByte(first, '\n'); end >= 0 {
		first = first[:end]
	} else if n < maxHeader {
		return info.Size(), "", nil // its first line is not whole
	}
	sum := sha256.Sum256(first)
	return info.Size(), hex.EncodeToString(sum[:]), nil
}

// publishLog answers CmdPublishLog: it writes what is new in whole lines, a segment after the other, as far as the grant and the time go.
func publishLog(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.PublishLogArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	if a.cfg.Objects == nil {
		return nil, trove.Errorf(trove.KindNotImplemented, "This guest cannot write objects.")
	}
	l, err := a.findLog(ctx, args.Name)
	if err != nil {
		return nil, err
	}
	done := guestapi.LogPublished{From: args.From, To: args.From, Header: args.Header, Segments: []guestapi.LogSegment{}}
	f, err := openLog(l.Path)
	if err != nil || f == nil {
		return done, err
	}
	defer f.Close()
	size, header, err := f.look()
	if err != nil || header == "" {
		return done, err
	}
	if header != args.Header || size < args.From {
		done = guestapi.LogPublished{Restarted: args.Header != "", Header: header, Segments: done.Segments}
	}
	return done, a.publishNew(ctx, f, size, args.Grant, &done)
}

func (a *Agent) publishNew(ctx context.Context, f *logFile, size int64, grant guestapi.Grant, done *guestapi.LogPublished) error {
	left, buffer := grant.MaxBytes, make([]byte, logSegment)
	for done.To < size && left > 0 {
		if deadline, ok := ctx.Deadline(); ok && deadline.Sub(a.cfg.Clock.Now()) < publishReserve {
			return nil // the next publication goes on from here
		}
		n, err := f.ReadAt(buffer[:min(logSegment, size-done.To, left)], done.To)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read a log: %w", err)
		}
		part := wholeLines(buffer[:n], n == logSegment)
		if len(part) == 0 {
			return nil
		}
		segment := guestapi.LogSegment{Name: fmt.Sprintf("%s%05d", grant.Prefix, len(done.Segments)+1), Lines: int64(bytes.Count(part, []byte("\n")))}
		stored, err := a.cfg.Objects.PutLines(ctx, grant, segment.Name, bytes.NewReader(part), segment.Lines)
		if err != nil {
			return fmt.Errorf("publish a log: %w", err)
		}
		segment.Size, segment.SHA256 = stored.Size, stored.SHA256
		done.Segments = append(done.Segments, segment)
		done.To += segment.Size
		left -= segment.Size
	}
	return nil
}

// wholeLines cuts a line that is not whole: it comes with the next segment. One that is longer than a segment is divided.
func wholeLines(part []byte, full bool) []byte {
	if end := bytes.LastIndexByte(part, '\n'); end >= 0 {
		return part[:end+1]
	}
	if full {
		return part
	}
	return nil
}

// boundLogs cuts logs that users switched on and that have grown too large to their last quarter.
func boundLogs(ctx context.Context, e engine.Engine, l engine.Layout) error {
	s, ok := e.(engine.LogSource)
	if !ok {
		return nil
	}
	all, err := s.Logs(ctx, l)
	if err != nil {
		return fmt.Errorf("list the logs: %w", err)
	}
	for _, log := range all {
		if log.System || fileSize(log.Path) <= logLimit {
			continue
		}
		if err := cut(log.Path, logLimit/4); err != nil {
			return fmt.Errorf("cut an engine's log: %w", err)
		}
	}
	return nil
}

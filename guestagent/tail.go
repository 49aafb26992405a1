package guestagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// maxTailLines is how many lines at the end of a log are given.
const maxTailLines = 1000

// tailLog answers CmdTailLog. The engine need not be up, and only logs that the engine names are shown: the agent has files beside them.
func tailLog(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.TailLogArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	if args.From < 0 || args.Lines < 0 {
		return nil, trove.Errorf(trove.KindBadRequest, "A log has no position %d and no %d lines.", args.From, args.Lines)
	}
	l, err := a.findLog(ctx, args.Name)
	if err != nil {
		return nil, err
	}
	f, err := openLog(l.Path)
	if err != nil || f == nil {
		return guestapi.LogTail{Restarted: args.File != ""}, err
	}
	defer f.Close()
	return f.tailFrom(args)
}

// tailFrom reads whole lines from the position on, or at the end of the file.
func (f *logFile) tailFrom(args guestapi.TailLogArgs) (guestapi.LogTail, error) {
	size, header, err := f.look()
	if err != nil {
		return guestapi.LogTail{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return guestapi.LogTail{}, fmt.Errorf("read a log: %w", err)
	}
	if header == "" {
		return guestapi.LogTail{Restarted: args.File != ""}, nil // nobody has written a whole line
	}
	t := guestapi.LogTail{File: fmt.Sprintf("%x-%.16s", st.Ino, header)}
	lines := min(args.Lines, maxTailLines)
	if args.File == t.File && args.From <= size {
		t.To = args.From
		return t, f.next(&t, size)
	}
	if args.File != "" {
		t.Restarted, lines = true, maxTailLines // what there is of the new file, as far as an answer goes
	}
	return t, f.last(&t, size, lines)
}

// next reads what follows the position.
func (f *logFile) next(t *guestapi.LogTail, size int64) error {
	buffer := make([]byte, min(guestapi.MaxTail, size-t.To))
	n, err := f.ReadAt(buffer, t.To)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read a log: %w", err)
	}
	t.Data = wholeLines(buffer[:n], n == guestapi.MaxTail)
	t.To += int64(len(t.Data))
	t.More = n == guestapi.MaxTail && size > t.To
	return nil
}

// last reads the last whole lines.
func (f *logFile) last(t *guestapi.LogTail, size int64, lines int) error {
	from := max(0, size-guestapi.MaxTail)
	buffer := make([]byte, size-from)
	n, err := f.ReadAt(buffer, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read a log: %w", err)
	}
	part := wholeLines(buffer[:n], n == guestapi.MaxTail)
	t.To = from + int64(len(part))
	if from > 0 {
		if end := bytes.IndexByte(part, '\n'); end >= 0 && end+1 < len(part) { // the first one is not whole
			part = part[end+1:]
		}
	}
	at := len(part)
	for range lines {
		if at == 0 {
			break
		}
		at = bytes.LastIndexByte(part[:at-1], '\n') + 1
	}
	t.Data = part[at:]
	return nil
}

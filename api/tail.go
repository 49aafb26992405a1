package api

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	defaultTailLines = 50
	maxTailLines     = 1000
	// tailPause is between two questions to a guest while nothing is new, and tailRest between two answers of one stream.
	tailPause = time.Second
	tailRest  = 250 * time.Millisecond
)

// tails keeps each instance to one stream: what a stream costs its guest must not be multiplied by whoever can read it.
type tails struct {
	mu   sync.Mutex
	open map[string]bool
	last map[string]time.Time // when a stream was answered last
}

func newTails() *tails { return &tails{open: map[string]bool{}, last: map[string]time.Time{}} }

// enter begins a call and returns how long it has to rest first. False: there is one already.
func (t *tails) enter(instance string, now time.Time) (rest time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[instance] {
		return 0, false
	}
	t.open[instance] = true
	if at, known := t.last[instance]; known {
		rest = max(0, tailRest-now.Sub(at))
	}
	return rest, true
}

func (t *tails) leave(instance string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, instance)
	for id, at := range t.last {
		if now.Sub(at) > tailRest {
			delete(t.last, id)
		}
	}
	t.last[instance] = now
}

// tailLog is a long poll: it answers with the lines after the cursor as soon as there are some, or when the time has passed. Without a cursor it answers at
// once with the last lines.
func (s *server) tailLog(ctx context.Context, c *call) (any, error) {
	if c.instance.Stopped() {
		return nil, c.instance.CheckActionable(c.instance.BackingUp)
	}
	if c.instance.Guest.SeenAt.IsZero() {
		return nil, trove.Errorf(trove.KindUnprocessable, "Instance %s is not ready.", c.instance.ID)
	}
	args, wait, err := readTail(c)
	if err != nil {
		return nil, err
	}
	rest, ok := s.tails.enter(c.instance.ID, s.cfg.Clock.Now())
	if !ok {
		return nil, trove.Errorf(trove.KindConflict, "Another call follows a log of instance %s: there may be one at a time.", c.instance.ID)
	}
	defer func() { s.tails.leave(c.instance.ID, s.cfg.Clock.Now()) }()
	if err := clock.Sleep(ctx, rest); err != nil {
		return nil, err
	}
	start := s.cfg.Clock.Now()
	for {
		t, err := s.cfg.Guests.TailLog(ctx, c.instance.ID, args)
		if err != nil {
			return nil, err
		}
		waited := s.cfg.Clock.Now().Sub(start)
		if len(t.Data) > 0 || t.Restarted || waited >= wait {
			return viewTail(&t), nil
		}
		args.File, args.From, args.Lines = t.File, t.To, maxTailLines
		if err := clock.Sleep(ctx, min(tailPause, wait-waited)); err != nil {
			return nil, err
		}
	}
}

func readTail(c *call) (args guestapi.TailLogArgs, wait time.Duration, err error) {
	q := c.req.URL.Query()
	args = guestapi.TailLogArgs{Name: c.params.get("log"), Lines: defaultTailLines}
	if text := q.Get("lines"); text != "" {
		if args.Lines, err = strconv.Atoi(text); err != nil || args.Lines < 1 || args.Lines > maxTailLines {
			return args, 0, bad("lines must be a number from 1 to %d.", maxTailLines)
		}
	}
	if text := q.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return args, 0, bad("The wait %q is not a duration such as 30s.", text)
		}
	}
	if text := q.Get("since"); text != "" {
		at, file, ok := strings.Cut(text, ".")
		args.From, err = strconv.ParseInt(at, 10, 64)
		if err != nil || !ok || args.From < 0 || len(file) > 64 || strings.ContainsFunc(file, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return args, 0, bad("The cursor %q in since is not one that an answer had.", text)
		}
		args.File = file
		if file == "" { // the log was empty: everything is new
			args.Lines = maxTailLines
		}
	}
	return args, min(wait, maxWait), nil
}

func viewTail(t *guestapi.LogTail) *wire.LogTailBody {
	out := wire.LogTail{Lines: []string{}, Cursor: fmt.Sprintf("%d.%s", t.To, t.File), Restarted: t.Restarted, More: t.More}
	for line := range bytes.Lines(t.Data) {
		out.Lines = append(out.Lines, shownLine(bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))))
	}
	return &wire.LogTailBody{Tail: out}
}

// shownLine writes what is no text, and what a terminal would act on, as bytes.
func shownLine(line []byte) string {
	var b strings.Builder
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		if r == utf8.RuneError && size == 1 || unicode.IsControl(r) && r != '\t' {
			for _, c := range line[:size] {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		} else {
			b.Write(line[:size])
		}
		line = line[size:]
	}
	return b.String()
}

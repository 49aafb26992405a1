package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
)

// The statuses of a log, which are Trove's.
const (
	logDisabled  = "Disabled"
	logEnabled   = "Enabled"
	logReady     = "Ready"
	logPublished = "Published"
	logPartial   = "Partial"
	logRotated   = "Rotated"
)

const (
	publishAtOnce = 16 << 20 // bytes of one call: it answers within half a minute
	publishLife   = time.Minute
	nothing       = "None" // what Trove says for no container
)

// asCaller is the context for what is done with objects: where a project has rights of its own on them, with the caller's.
func asCaller(ctx context.Context, c *call) context.Context {
	return backupstore.WithCaller(ctx, c.caller.Token, c.caller.ProjectID)
}

// logsOf checks that the instance's logs can be asked for.
func (s *server) logsOf(ctx context.Context, c *call) (manager string, err error) {
	if s.cfg.Objects == nil || s.cfg.Grants == nil {
		return "", trove.Errorf(trove.KindNotImplemented, "Log functionality is not available: there is no object store.")
	}
	if c.instance.Stopped() {
		return "", c.instance.CheckActionable(c.instance.BackingUp)
	}
	if c.instance.Guest.SeenAt.IsZero() {
		return "", trove.Errorf(trove.KindUnprocessable, "Instance %s is not ready.", c.instance.ID)
	}
	return s.managerOf(ctx, c)
}

func (s *server) managerOf(ctx context.Context, c *call) (string, error) {
	version, _, err := s.datastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil {
		return "", err
	}
	return version.Manager, nil
}

func (s *server) publishedOf(ctx context.Context, c *call, manager, log string) (*published, error) {
	base := c.instance.ID + "/" + manager + "-" + log
	return readPublished(ctx, s.cfg.Objects, backupstore.Container{Project: c.instance.ProjectID, Name: trove.LogContainer}, base)
}

func (s *server) listLogs(ctx context.Context, c *call) (any, error) {
	ctx = asCaller(ctx, c)
	manager, err := s.logsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Guests.Logs(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	out := wire.LogList{Logs: []wire.Log{}}
	for _, l := range all {
		p, err := s.publishedOf(ctx, c, manager, l.Name)
		if err != nil {
			return nil, err
		}
		out.Logs = append(out.Logs, viewLog(l, p))
	}
	return &out, nil
}

// viewLog compares what the guest has with what was published.
func viewLog(l guestapi.LogState, p *published) wire.Log {
	v := wire.Log{Name: l.Name, Type: "USER", Published: p.size(), Pending: l.Size, Container: nothing, Prefix: nothing, Metafile: p.metafile()}
	if l.System {
		v.Type = "SYS"
	}
	if v.Published > 0 {
		v.Container, v.Prefix = trove.LogContainer, p.prefix()
	}
	at, header := p.position()
	rotated := header != "" && l.Header != "" && (header != l.Header || l.Size < at)
	if header != "" && !rotated {
		v.Pending = max(0, l.Size-at)
	}
	switch {
	case !l.Enabled:
		v.Status = logDisabled
	case rotated:
		v.Status = logRotated
	case v.Pending > 0 && v.Published > 0:
		v.Status = logPartial
	case v.Pending > 0:
		v.Status = logReady
	case v.Published > 0:
		v.Status = logPublished
	default:
		v.Status = logEnabled
	}
	return v
}

// logCall is one action on a log.
type logCall struct {
	*call
	server  *server
	manager string
	log     guestapi.LogState
}

// wanted says whether an action is asked for: a number other than 0, or true.
func (o object) wanted(key string) bool {
	switch v := o[key].(type) {
	case bool:
		return v
	case json.Number:
		return v.String() != "0"
	}
	return false
}

func (s *server) actOnLog(ctx context.Context, c *call) (any, error) {
	ctx = asCaller(ctx, c)
	enable, disable, publish, discard := c.body.wanted("enable"), c.body.wanted("disable"), c.body.wanted("publish"), c.body.wanted("discard")
	if enable && disable {
		return nil, bad("Cannot enable and disable log.")
	}
	manager, err := s.logsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	l := &logCall{call: c, server: s, manager: manager}
	if err := l.find(ctx, c.body.ref("name")); err != nil {
		return nil, err
	}
	if l.log.System && (enable || disable) {
		return nil, bad("Log %s is a system log: it is always on.", l.log.Name)
	}
	if on := enable || publish && !disable; (on || disable) && !l.log.System && l.log.Enabled != on {
		if err := s.cfg.Guests.SetLog(ctx, c.instance.ID, l.log.Name, on); err != nil {
			return nil, err
		}
	}
	p, err := s.publishedOf(ctx, c, manager, l.log.Name)
	if err == nil && discard {
		err = p.discard(ctx)
	}
	if err == nil && publish {
		err = l.publish(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	if err := l.find(ctx, l.log.Name); err != nil {
		return nil, err
	}
	return &wire.LogBody{Log: viewLog(l.log, p)}, nil
}

// find asks the guest how a log is.
func (l *logCall) find(ctx context.Context, name string) error {
	all, err := l.server.cfg.Guests.Logs(ctx, l.instance.ID)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(all, func(each guestapi.LogState) bool { return each.Name == name })
	if n < 0 {
		return bad("Log %s is not defined.", name)
	}
	l.log = all[n]
	return nil
}

// publish lets the guest write what is new, looks at it, and records it. A prefix of its own makes a publication's objects unlike those of every other.
func (l *logCall) publish(ctx context.Context, p *published) error {
	s, now := l.server, l.server.cfg.Clock.Now()
	prefix := p.prefix() + "log-" + now.Format("2006-01-02T15:04:05.000000Z") + "-" + trove.NewID()[:8] + "/"
	if store, ok := p.store.(backupstore.Preparer); ok {
		if err := store.Prepare(ctx, p.container); err != nil {
			return err
		}
	}
	g, err := s.cfg.Grants.Issue(ctx, grant.Spec{
		Instance: l.instance.ID, Container: p.container, Method: http.MethodPut, Prefix: prefix, MaxBytes: publishAtOnce, Life: publishLife,
	})
	if err != nil {
		return err
	}
	at, header := p.position()
	done, err := s.cfg.Guests.PublishLog(ctx, l.instance.ID, guestapi.PublishLogArgs{Name: l.log.Name, From: at, Header: header, Grant: g})
	if err == nil && len(done.Segments) > 0 {
		if err = l.record(ctx, p, prefix, done); err == nil {
			s.cfg.Log.InfoContext(ctx, "log published", "instance", l.instance.ID, "log", l.log.Name, "bytes", done.To-done.From)
			return nil
		}
	}
	if err == nil {
		return nil // there was nothing new
	}
	if _, cleanErr := p.store.RemoveAll(context.WithoutCancel(ctx), p.container, prefix); cleanErr != nil {
		s.cfg.Log.WarnContext(ctx, "parts of a publication were not removed", "instance", l.instance.ID, "err", cleanErr)
	}
	if trove.KindOf(err) == trove.KindConflict {
		return trove.Wrap(trove.KindConflict, err, "Log %s is being published by another call.", l.log.Name)
	}
	return err
}

// record takes a publication into the records, if the objects are what the guest says.
func (l *logCall) record(ctx context.Context, p *published, prefix string, done guestapi.LogPublished) error {
	total := int64(0)
	for _, segment := range done.Segments {
		o, err := p.store.Stat(ctx, p.container, segment.Name)
		if err != nil && !trove.IsNotFound(err) {
			return err
		}
		if err != nil || !strings.HasPrefix(segment.Name, prefix) || o.Size != segment.Size || o.SHA256 != segment.SHA256 {
			return trove.Errorf(trove.KindInternal, "the guest reported a part of log %s that it did not write", l.log.Name)
		}
		total += o.Size
	}
	if done.To-done.From != total {
		return trove.Errorf(trove.KindInternal, "the guest reported another position in log %s than it wrote up to", l.log.Name)
	}
	now := l.server.cfg.Clock.Now()
	if err := p.add(ctx, now, done); err != nil {
		return err
	}
	kind := "USER"
	if l.log.System {
		kind = "SYS"
	}
	meta := metafile{Name: l.log.Name, Type: kind, File: l.log.File, Size: done.To, Header: done.Header}
	if err := errors.Join(p.writeJSON(ctx, p.metafile(), meta, false), p.prune(ctx, now)); err != nil {
		l.server.cfg.Log.WarnContext(ctx, "publication was recorded, and something beside it failed", "instance", l.instance.ID, "err", err)
	}
	return nil
}

// ofPath reads what was published of the log in the path. The guest is not asked: it may be down, which is when its logs are wanted.
func (s *server) ofPath(ctx context.Context, c *call) (*published, error) {
	if s.cfg.Objects == nil {
		return nil, trove.Errorf(trove.KindNotImplemented, "Log functionality is not available: there is no object store.")
	}
	name := c.params.get("log")
	notFound := trove.Errorf(trove.KindNotFound, "Nothing was published of a log %q of instance %s.", name, c.instance.ID)
	if guestapi.CheckObjectName(name) != nil || strings.Contains(name, "/") {
		return nil, notFound
	}
	manager, err := s.managerOf(ctx, c)
	if err != nil {
		return nil, err
	}
	p, err := s.publishedOf(ctx, c, manager, name)
	if err != nil {
		return nil, err
	}
	if len(p.records) == 0 {
		return nil, notFound
	}
	return p, nil
}

func (s *server) listLogObjects(ctx context.Context, c *call) (any, error) {
	ctx = asCaller(ctx, c)
	p, err := s.ofPath(ctx, c)
	if err != nil {
		return nil, err
	}
	out := wire.LogObjectList{Objects: []wire.LogObject{}}
	for _, r := range p.records {
		for _, o := range r.Segments {
			out.Objects = append(out.Objects, wire.LogObject{Name: o.Name, Size: o.Size, Lines: o.Lines, SHA256: o.SHA256, Published: wire.Time(r.Published)})
		}
	}
	return &out, nil
}

const maxLines = 100_000

func (s *server) readLog(ctx context.Context, c *call) (any, error) {
	ctx = asCaller(ctx, c)
	p, err := s.ofPath(ctx, c)
	if err != nil {
		return nil, err
	}
	t := &logText{server: s, published: p, call: c}
	for _, r := range p.records {
		t.segments = append(t.segments, r.Segments...)
	}
	text := c.req.URL.Query().Get("lines")
	if text == "" {
		return t, nil
	}
	lines, err := strconv.ParseInt(text, 10, 64)
	if err != nil || lines < 1 || lines > maxLines {
		return nil, bad("lines must be a number from 1 to %d.", maxLines)
	}
	return t, t.last(ctx, lines)
}

// logText is the text of published segments.
type logText struct {
	server    *server
	published *published
	call      *call
	segments  []guestapi.LogSegment
	skip      int64 // bytes of the first segment that are left out
}

// last leaves the segments with the last lines.
func (t *logText) last(ctx context.Context, lines int64) error {
	from := len(t.segments)
	have := int64(0)
	for from > 0 && have < lines {
		from--
		have += t.segments[from].Lines
	}
	t.segments = t.segments[from:]
	if have <= lines || len(t.segments) == 0 {
		return nil
	}
	body, _, err := t.published.store.Get(ctx, t.published.container, t.segments[0].Name, backupstore.Range{})
	if err != nil {
		return fmt.Errorf("read a published log: %w", err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("read a published log: %w", err)
	}
	for surplus := have - lines; surplus > 0; surplus-- {
		end := slices.Index(data[t.skip:], '\n')
		if end < 0 {
			break
		}
		t.skip += int64(end) + 1
	}
	return nil
}

// pieceTimeout is how long a client may take for a piece of a long answer.
const pieceTimeout = 30 * time.Second

// write implements stream. What breaks off is shorter than was announced, so that the client knows.
func (t *logText) write(ctx context.Context, w http.ResponseWriter) {
	ctx = asCaller(ctx, t.call)
	total := -t.skip
	for _, s := range t.segments {
		total += s.Size
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.FormatInt(total, 10))
	w.WriteHeader(http.StatusOK)
	skip := t.skip
	for _, segment := range t.segments {
		if err := t.copy(ctx, w, segment.Name, skip); err != nil {
			t.server.cfg.Log.WarnContext(ctx, "published log was not sent whole", "instance", t.call.instance.ID, "err", err)
			return
		}
		skip = 0
	}
}

func (t *logText) copy(ctx context.Context, w http.ResponseWriter, name string, skip int64) error {
	body, _, err := t.published.store.Get(ctx, t.published.container, name, backupstore.Range{Offset: skip})
	if err != nil {
		return err
	}
	defer body.Close()
	control, buffer := http.NewResponseController(w), make([]byte, 64<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if err := control.SetWriteDeadline(t.server.cfg.Clock.Now().Add(pieceTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

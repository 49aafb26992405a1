package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/guestapi"
)

const (
	logLife    = 30 * 24 * time.Hour // how long a published part is kept, as in Trove
	logKeep    = 256 << 20           // bytes of one log that are kept: of more, the oldest are removed
	maxRecord  = 1 << 20
	maxRecords = 100_000
)

// published is what of a log is in the object store. The truth are its records, one for each publication, written by the API when it has seen the
// objects: they are numbered and never replaced, so that of two publications at once one counts. What a guest wrote and no record names is not shown.
type published struct {
	store     backupstore.Store
	container backupstore.Container
	base      string // "<instance>/<datastore>-<log>": names begin with it
	records   []record
}

// record is one publication.
type record struct {
	Number    int                   `json:"number"`
	Published time.Time             `json:"published"`
	From      int64                 `json:"from"`
	To        int64                 `json:"to"`
	Header    string                `json:"header"`
	Segments  []guestapi.LogSegment `json:"segments"`
}

func (p *published) prefix() string       { return p.base + "/" }
func (p *published) metafile() string     { return p.base + "_metafile" }
func (p *published) recordPrefix() string { return p.base + "_published/" }

func (p *published) recordName(number int) string {
	return fmt.Sprintf("%s%08d", p.recordPrefix(), number)
}

// readPublished reads the records of a log.
func readPublished(ctx context.Context, store backupstore.Store, c backupstore.Container, base string) (*published, error) {
	p := &published{store: store, container: c, base: base}
	all, err := store.List(ctx, c, backupstore.ListOptions{Prefix: p.recordPrefix(), Limit: maxRecords})
	if err != nil {
		return nil, fmt.Errorf("list what was published: %w", err)
	}
	for _, o := range all {
		var r record
		if err := p.readJSON(ctx, o.Name, &r); err != nil {
			if trove.IsNotFound(err) {
				continue // discarded meanwhile
			}
			return nil, err
		}
		p.records = append(p.records, r)
	}
	return p, nil
}

func (p *published) readJSON(ctx context.Context, name string, into any) error {
	body, _, err := p.store.Get(ctx, p.container, name, backupstore.Range{})
	if err != nil {
		return fmt.Errorf("read what was published: %w", err)
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxRecord))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("read what was published from %s: %w", name, err)
	}
	return nil
}

// size returns how many bytes were published.
func (p *published) size() int64 {
	var n int64
	for _, r := range p.records {
		n += r.size()
	}
	return n
}

func (r record) size() int64 {
	var n int64
	for _, s := range r.Segments {
		n += s.Size
	}
	return n
}

// position returns up to where the log was published, and from which file.
func (p *published) position() (at int64, header string) {
	if len(p.records) == 0 {
		return 0, ""
	}
	last := p.records[len(p.records)-1]
	return last.To, last.Header
}

// add writes the record of a publication whose objects are there. Conflict: another one was quicker.
func (p *published) add(ctx context.Context, now time.Time, done guestapi.LogPublished) error {
	r := record{Number: 1, Published: now, From: done.From, To: done.To, Header: done.Header, Segments: done.Segments}
	if n := len(p.records); n > 0 {
		r.Number = p.records[n-1].Number + 1
	}
	if err := p.writeJSON(ctx, p.recordName(r.Number), r, true); err != nil {
		return err
	}
	p.records = append(p.records, r)
	return nil
}

func (p *published) writeJSON(ctx context.Context, name string, v any, once bool) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = p.store.Put(ctx, p.container, name, bytes.NewReader(data), backupstore.PutOptions{Size: int64(len(data)), IfAbsent: once})
	}
	if err != nil {
		return fmt.Errorf("write what was published: %w", err)
	}
	return nil
}

// prune removes the oldest records, with their objects, that are too old or too much.
func (p *published) prune(ctx context.Context, now time.Time) error {
	left := p.size()
	for len(p.records) > 1 && (now.Sub(p.records[0].Published) > logLife || left > logKeep) {
		oldest := p.records[0]
		if err := p.store.Remove(ctx, p.container, p.recordName(oldest.Number)); err != nil {
			return fmt.Errorf("remove an old record: %w", err)
		}
		for _, s := range oldest.Segments {
			if err := p.store.Remove(ctx, p.container, s.Name); err != nil {
				return fmt.Errorf("remove an old part: %w", err)
			}
		}
		left -= oldest.size()
		p.records = p.records[1:]
	}
	return nil
}

// discard removes all that was published: the records first, so that none names what is gone.
func (p *published) discard(ctx context.Context) error {
	for _, prefix := range []string{p.recordPrefix(), p.prefix()} {
		if _, err := p.store.RemoveAll(ctx, p.container, prefix); err != nil {
			return fmt.Errorf("discard what was published: %w", err)
		}
	}
	if err := p.store.Remove(ctx, p.container, p.metafile()); err != nil {
		return fmt.Errorf("discard what was published: %w", err)
	}
	p.records = nil
	return nil
}

// metafile is what Trove keeps beside a log; clients that know it find the same here.
type metafile struct {
	Name   string `json:"log_name"`
	Type   string `json:"log_type"`
	File   string `json:"log_file"`
	Size   int64  `json:"log_size"`
	Header string `json:"log_header_digest"`
}

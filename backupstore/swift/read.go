package swift

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// newest has Swift ask all copies of an object.
const newest = true

// find asks what is known of an object.
func (s *Store) find(ctx context.Context, p place, name string, newest bool) (found, error) {
	h, err := s.head(ctx, p.client, p.url(name), "X-Newest", strconv.FormatBool(newest))
	if p.unseen(err) {
		return found{}, notFound(name, err)
	}
	if err != nil {
		return found{}, fmt.Errorf("look for an object: %w", err)
	}
	return read(name, h)
}

// findPieces is find for an object that is going to be replaced or removed.
func (s *Store) findPieces(ctx context.Context, p place, name string) (found, error) {
	f, err := s.find(ctx, p, name, newest)
	if err == nil && f.large {
		f.pieces, err = s.piecesOf(ctx, p, name)
	}
	return f, err
}

// notFound has the cause for those who want to know what Swift said.
func notFound(name string, cause error) error {
	return trove.Wrap(trove.KindNotFound, cause, "%s", trove.MessageOf(backupstore.NotFound(name)))
}

// Stat implements backupstore.Store.
func (s *Store) Stat(ctx context.Context, c backupstore.Container, name string) (backupstore.Object, error) {
	if err := check(ctx, c, name, backupstore.PutOptions{}); err != nil {
		return backupstore.Object{}, err
	}
	p, err := s.place(ctx, c)
	if err != nil {
		return backupstore.Object{}, err
	}
	f, err := s.find(ctx, p, name, !newest)
	return f.Object, err
}

// Get implements backupstore.Store.
func (s *Store) Get(ctx context.Context, c backupstore.Container, name string, r backupstore.Range) (io.ReadCloser, backupstore.Object, error) {
	if err := check(ctx, c, name, backupstore.PutOptions{}); err != nil {
		return nil, backupstore.Object{}, err
	}
	p, err := s.place(ctx, c)
	if err != nil {
		return nil, backupstore.Object{}, err
	}
	if r.Offset < 0 || r.Length < 0 {
		return nil, backupstore.Object{}, noRange(r)
	}
	headers := map[string]string{}
	switch {
	case r.Length > 0:
		headers["Range"] = fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1)
	case r.Offset > 0:
		headers["Range"] = fmt.Sprintf("bytes=%d-", r.Offset)
	}
	resp, err := p.client.Request(ctx, http.MethodGet, p.url(name), &gophercloud.RequestOpts{
		MoreHeaders: headers, OkCodes: []int{http.StatusOK, http.StatusPartialContent}, KeepResponseBody: true,
	})
	switch {
	case osclient.Is(err, http.StatusRequestedRangeNotSatisfiable):
		return s.atEnd(ctx, p, name, r)
	case p.unseen(err):
		return nil, backupstore.Object{}, notFound(name, err)
	case err != nil:
		return nil, backupstore.Object{}, fmt.Errorf("read an object: %w", err)
	}
	f, err := read(name, resp.Header)
	if err == nil {
		f.Size, err = whole(resp, f.Size)
	}
	if err != nil {
		return nil, backupstore.Object{}, errors.Join(err, resp.Body.Close())
	}
	content := &content{ReadCloser: resp.Body}
	if r == (backupstore.Range{}) && f.SHA256 != "" {
		content.sum, content.want = sha256.New(), f.SHA256
	}
	return content, f.Object, nil
}

func noRange(r backupstore.Range) error {
	return trove.Errorf(trove.KindBadRequest, "The object has no range at %d of %d bytes.", r.Offset, r.Length)
}

// atEnd answers for a range that Swift has nothing of: what begins where the object ends is empty, what begins behind it is none.
func (s *Store) atEnd(ctx context.Context, p place, name string, r backupstore.Range) (io.ReadCloser, backupstore.Object, error) {
	f, err := s.find(ctx, p, name, !newest)
	if err != nil {
		return nil, backupstore.Object{}, err
	}
	if r.Offset > f.Size {
		return nil, backupstore.Object{}, noRange(r)
	}
	return io.NopCloser(strings.NewReader("")), f.Object, nil
}

// whole returns the size of the object of which an answer has a part.
func whole(resp *http.Response, size int64) (int64, error) {
	if resp.StatusCode != http.StatusPartialContent {
		return size, nil
	}
	_, total, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read what Swift knows of an object: its range: %w", err)
	}
	return size, nil
}

// content is what is read of an object. At the end of a whole one the hash is compared: what is damaged, or whose pieces are gone, is an error.
type content struct {
	io.ReadCloser
	sum  hash.Hash // nil: it is not compared
	want string
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.sum != nil {
		c.sum.Write(p[:n])
		if errors.Is(err, io.EOF) && hex.EncodeToString(c.sum.Sum(nil)) != c.want {
			return n, trove.Errorf(trove.KindInternal, "the object that Swift returned is not the one that was stored: its SHA-256 is another one")
		}
	}
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// List implements backupstore.Store.
func (s *Store) List(ctx context.Context, c backupstore.Container, o backupstore.ListOptions) ([]backupstore.Object, error) {
	if err := errors.Join(ctx.Err(), c.Check()); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	p, err := s.place(ctx, c)
	if err != nil {
		return nil, err
	}
	all, err := s.list(ctx, p, o)
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return all, nil
}

// pageSize is how many objects one request lists at most; Swift allows as many.
const pageSize = 10_000

func (s *Store) list(ctx context.Context, p place, o backupstore.ListOptions) ([]backupstore.Object, error) {
	var all []backupstore.Object
	marker := valid(o.Marker)
	for {
		size := pageSize
		if o.Limit > 0 {
			size = min(size, o.Limit-len(all))
		}
		page, err := s.page(ctx, p, valid(o.Prefix), marker, size)
		if err != nil {
			return nil, err
		}
		for _, l := range page {
			marker = l.Name
			if !strings.HasPrefix(l.Name, o.Prefix) || l.Name <= o.Marker {
				continue
			}
			object, err := l.object()
			if err != nil {
				return nil, err
			}
			all = append(all, object)
		}
		if len(page) < size || o.Limit > 0 && len(all) >= o.Limit {
			return all, nil
		}
	}
}

// valid is the part of a text that is UTF-8, which is all that Swift takes; what it lists too much is left out here.
func valid(text string) string {
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text
}

// page lists some objects; none if the container is not there.
func (s *Store) page(ctx context.Context, p place, prefix, marker string, size int) ([]listed, error) {
	q := url.Values{"format": {"json"}, "limit": {strconv.Itoa(size)}}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	if marker != "" {
		q.Set("marker", marker)
	}
	resp, err := p.client.Request(ctx, http.MethodGet, p.url("")+"?"+q.Encode(), &gophercloud.RequestOpts{
		OkCodes: []int{http.StatusOK, http.StatusNoContent}, KeepResponseBody: true,
	})
	if p.unseen(err) {
		return nil, nil
	}
	if err != nil {
		return nil, osclient.Told(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	var page []listed
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, fmt.Errorf("read a listing of Swift: %w", err)
	}
	return page, nil
}

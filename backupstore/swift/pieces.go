package swift

import (
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // what Swift compares with
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

const (
	// unfinished is how long Swift keeps a piece that no object uses: that of a writer who was cut off.
	unfinished = 48 * time.Hour
	// readable is how long pieces of an object that was removed or replaced are there yet for those who read it.
	readable = time.Hour
	cleaning = 30 * time.Second
)

// piece is a part of a large object, as a manifest of Swift names it.
type piece struct {
	Path string `json:"path"` // /container/name
	Tag  string `json:"etag"`
	Size int64  `json:"size_bytes"`
}

// large stores an object in pieces. Of one piece the object is a copy, of several a manifest: both show it whole or not at all.
func (p *put) large(ctx context.Context, body io.Reader) (backupstore.Object, error) {
	at := p.place.pieces()
	// In the account of a project it was made with the rights of a caller, or there is none.
	if err := p.make(ctx, at); err != nil && (at.project == "" || at.caller || trove.KindOf(err) != trove.KindForbidden) {
		return backupstore.Object{}, err
	}
	pieces, err := p.upload(ctx, at, body)
	used := false
	defer func() {
		if !used {
			p.removePieces(ctx, at, pieces)
		}
	}()
	if err != nil {
		return backupstore.Object{}, err
	}
	url, h, data := p.place.url(p.object.Name), describe(p.object), []byte(nil)
	if len(pieces) == 1 {
		h[copyFrom], h["X-Fresh-Metadata"] = escape(pieces[0].Path), "true"
	} else {
		if err := p.keep(ctx, at, pieces); err != nil {
			return backupstore.Object{}, err
		}
		url += "?multipart-manifest=put"
		if data, err = json.Marshal(pieces); err != nil {
			return backupstore.Object{}, fmt.Errorf("store an object: %w", err)
		}
	}
	wrote := false
	object, err := p.publish(ctx, func(ctx context.Context) (http.Header, error) {
		wrote = true
		return p.send(ctx, url, h, data)
	})
	used = err == nil && wrote && len(pieces) > 1
	return object, err
}

// upload sends the pieces, and returns those that may be there, whatever went wrong.
func (p *put) upload(ctx context.Context, at place, body io.Reader) ([]piece, error) {
	in := &counted{body: bufio.NewReaderSize(body, 64<<10), sum: sha256.New(), most: p.options.Size}
	prefix := p.object.Name + "/" + rand.Text() + "/"
	var pieces []piece
	for {
		if _, err := in.body.Peek(1); errors.Is(err, io.EOF) && len(pieces) > 0 {
			break
		}
		name := fmt.Sprintf("%s%08d", prefix, len(pieces)+1)
		pieces = append(pieces, piece{Path: "/" + at.container + "/" + name})
		last := &pieces[len(pieces)-1]
		if err := p.sendPiece(ctx, at.url(name), in, last); err != nil {
			return pieces, err
		}
	}
	return pieces, p.is(in.size, hex.EncodeToString(in.sum.Sum(nil)))
}

// sendPiece sends what comes next. It is not tried again: the bytes are gone.
func (p *put) sendPiece(ctx context.Context, url string, in *counted, into *piece) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in.begin(p.cfg.Piece, cancel)
	resp, err := p.place.client.Request(ctx, http.MethodPut, url, &gophercloud.RequestOpts{
		RawBody: in, OkCodes: []int{http.StatusCreated}, KeepResponseBody: true,
		MoreHeaders: map[string]string{"Content-Type": mediaType, "X-Delete-After": seconds(unfinished)},
	})
	if in.err != nil {
		return in.err // what the sender did is no fault of Swift
	}
	if osclient.Is(err, http.StatusForbidden, http.StatusNotFound) {
		return p.refused(p.place.pieces(), err)
	}
	if err != nil {
		return stored(err)
	}
	defer resp.Body.Close()
	into.Tag, into.Size = hex.EncodeToString(in.tag.Sum(nil)), in.taken
	if got := strings.Trim(resp.Header.Get("Etag"), `"`); got != into.Tag {
		return trove.Errorf(trove.KindUnavailable, "Swift stored other bytes than it was sent.")
	}
	return nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// counted is a body that is sent piece by piece.
type counted struct {
	body *bufio.Reader
	sum  hash.Hash
	size int64
	most int64 // that may come; -1: any

	left, taken int64
	tag         hash.Hash
	cancel      context.CancelFunc // ends the request whose bytes do not come
	err         error
}

func (c *counted) begin(size int64, cancel context.CancelFunc) {
	c.left, c.taken, c.tag, c.cancel = size, 0, md5.New(), cancel //nolint:gosec // what Swift compares with
}

// Read implements io.Reader.
func (c *counted) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.body.Read(b[:min(int64(len(b)), c.left)])
	c.sum.Write(b[:n])
	c.tag.Write(b[:n])
	c.size, c.taken, c.left = c.size+int64(n), c.taken+int64(n), c.left-int64(n)
	if c.most >= 0 && c.size > c.most {
		err = mismatch("It is longer than announced.")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
		c.cancel()
	}
	return n, err //nolint:wrapcheck // an error of the body is returned as it is
}

// keep lets pieces stay that an object is about to use.
func (p *put) keep(ctx context.Context, at place, pieces []piece) error {
	for _, each := range pieces {
		if err := p.post(ctx, at, each, "X-Remove-Delete-At", "true"); err != nil {
			return fmt.Errorf("store an object: %w", err)
		}
	}
	return nil
}

func (s *Store) post(ctx context.Context, at place, each piece, header, value string) error {
	_, err := s.done(at.client.Request(ctx, http.MethodPost, at.client.Endpoint+escape(strings.TrimPrefix(each.Path, "/")), &gophercloud.RequestOpts{
		MoreHeaders: map[string]string{header: value, "Content-Type": mediaType}, OkCodes: []int{http.StatusAccepted}, KeepResponseBody: true,
	}))
	return err
}

// removePieces removes pieces that nobody reads. Those that stay are removed by Swift, later.
func (s *Store) removePieces(ctx context.Context, at place, pieces []piece) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer cancel()
	for _, each := range pieces {
		if err := s.remove(ctx, at, at.client.Endpoint+escape(strings.TrimPrefix(each.Path, "/"))); err != nil {
			s.cfg.Log.WarnContext(ctx, "piece of an object was not removed", "err", err)
		}
	}
}

// piecesOf returns the pieces of an object.
func (s *Store) piecesOf(ctx context.Context, p place, name string) ([]piece, error) {
	resp, err := p.client.Request(ctx, http.MethodGet, p.url(name)+"?multipart-manifest=get", &gophercloud.RequestOpts{
		OkCodes: []int{http.StatusOK}, KeepResponseBody: true, MoreHeaders: map[string]string{"X-Newest": "true"},
	})
	if err != nil {
		return nil, osclient.Told(err)
	}
	defer resp.Body.Close()
	// A manifest is told in other words than it was written in.
	var told []struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&told); err != nil {
		return nil, fmt.Errorf("read the pieces of an object: %w", err)
	}
	var pieces []piece
	for _, t := range told {
		pieces = append(pieces, piece{Path: t.Name})
	}
	return pieces, nil
}

// dropPieces has Swift remove the pieces of an object that is not seen any more, when nobody reads it any longer.
func (s *Store) dropPieces(ctx context.Context, p place, f found) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer cancel()
	for _, each := range f.pieces {
		if err := s.post(ctx, p, each, "X-Delete-After", seconds(readable)); err != nil && !trove.IsNotFound(err) {
			s.cfg.Log.WarnContext(ctx, "piece of an object was not removed", "err", err)
		}
	}
}

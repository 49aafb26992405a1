// Package swift is the driver of package backupstore over OpenStack's Swift.
//
// An object is one object of Swift under the same name, as other clients of Swift see it; docs/drivers/objects-swift.md shows the layout. What is small is sent at once; what is
// large goes in pieces to a container beside, and gets its name last. With Projects the containers of a project are in its own account: made with the token of the caller whom the
// context names (backupstore.WithCaller), who lets the service write there. A Store may be used by several goroutines and processes.
package swift

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what Swift compares with
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// Config says where the objects are.
type Config struct {
	Session  *osclient.Session // of the service
	Projects bool              // containers of projects are in their accounts; else all are in the service's
	Prefix   string            // of the names of containers in the service's account, which other deployments may use as well
	Locks    Locks
	Log      *slog.Logger

	Small int64 // bytes that are held in memory and sent at once; 0: 1 MiB
	Piece int64 // bytes of a piece of a larger object; 0: 1 GiB
}

const (
	defaultSmall = 1 << 20
	defaultPiece = 1 << 30 // Swift takes up to 5 GiB in one object
)

// Store keeps objects in Swift.
type Store struct {
	cfg Config
}

var (
	_ backupstore.Store    = (*Store)(nil)
	_ backupstore.Preparer = (*Store)(nil)
)

// New returns a store. Nothing is asked of Swift yet.
func New(cfg Config) (*Store, error) {
	if cfg.Session == nil || cfg.Locks == nil || cfg.Log == nil {
		return nil, errors.New("swift: Session, Locks and Log are required")
	}
	if cfg.Small == 0 {
		cfg.Small = defaultSmall
	}
	if cfg.Piece == 0 {
		cfg.Piece = defaultPiece
	}
	return &Store{cfg: cfg}, nil
}

// Check asks Swift whether the service can use its own account there.
func (s *Store) Check(ctx context.Context) error {
	client, err := s.cfg.Session.ObjectStore()
	if err != nil {
		return fmt.Errorf("open the object store: %w", err)
	}
	if _, err := s.head(ctx, client, client.Endpoint); err != nil && !trove.IsNotFound(err) { // an account is there from its first container on
		return fmt.Errorf("open the object store: %w", err)
	}
	return nil
}

// Put implements backupstore.Store.
func (s *Store) Put(ctx context.Context, c backupstore.Container, name string, body io.Reader, o backupstore.PutOptions) (backupstore.Object, error) {
	if err := check(ctx, c, name, o); err != nil {
		return backupstore.Object{}, err
	}
	at, err := s.place(ctx, c)
	if err != nil {
		return backupstore.Object{}, err
	}
	var small bytes.Buffer
	n, err := io.Copy(&small, io.LimitReader(body, s.cfg.Small+1))
	if err != nil {
		return backupstore.Object{}, err
	}
	put := &put{Store: s, place: at, options: o, object: backupstore.Object{Name: name, Meta: maps.Clone(o.Meta)}}
	if n > s.cfg.Small {
		return put.large(ctx, io.MultiReader(&small, body))
	}
	sum := sha256.Sum256(small.Bytes())
	if err := put.is(n, hex.EncodeToString(sum[:])); err != nil {
		return backupstore.Object{}, err
	}
	return put.publish(ctx, func(ctx context.Context) (http.Header, error) {
		h := describe(put.object)
		tag := md5.Sum(small.Bytes()) //nolint:gosec // what Swift compares with
		h["ETag"] = hex.EncodeToString(tag[:])
		return put.send(ctx, at.url(name), h, small.Bytes())
	})
}

func check(ctx context.Context, c backupstore.Container, name string, o backupstore.PutOptions) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ask the object store: %w", err)
	}
	return errors.Join(c.Check(), backupstore.CheckName(name), backupstore.CheckMeta(o.Meta))
}

// put is one object on its way.
type put struct {
	*Store
	place   place
	options backupstore.PutOptions
	object  backupstore.Object
}

// is compares what came with what was announced.
func (p *put) is(size int64, sum string) error {
	switch {
	case p.options.Size >= 0 && size > p.options.Size:
		return mismatch("It is longer than announced.")
	case p.options.Size >= 0 && size < p.options.Size:
		return mismatch("It is shorter than announced.")
	case p.options.SHA256 != "" && sum != p.options.SHA256:
		return mismatch("Its SHA-256 is another one than announced.")
	}
	p.object.Size, p.object.SHA256 = size, sum
	return nil
}

func mismatch(why string) error {
	return trove.Wrap(trove.KindBadRequest, backupstore.ErrMismatch, "The object is not the one that was announced. %s", why)
}

// publish lets the object be seen: with IfAbsent one writer after the other, since Swift lets two that come at the same time both write.
func (p *put) publish(ctx context.Context, write func(ctx context.Context) (http.Header, error)) (backupstore.Object, error) {
	if p.options.IfAbsent {
		held, unlock, err := p.cfg.Locks.Lock(ctx, p.place.url(p.object.Name))
		if err != nil {
			return backupstore.Object{}, fmt.Errorf("store an object: %w", err)
		}
		defer unlock()
		ctx = held
	}
	before, err := p.findPieces(ctx, p.place, p.object.Name)
	switch {
	case err == nil && p.options.IfAbsent:
		return p.same(before.Object)
	case err != nil && !trove.IsNotFound(err):
		return backupstore.Object{}, err
	}
	header, err := write(ctx)
	if osclient.Is(err, http.StatusPreconditionFailed) && p.options.IfAbsent {
		// An attempt of this very call whose answer was lost, or somebody beside us.
		there, err := p.find(ctx, p.place, p.object.Name, newest)
		if err != nil {
			return backupstore.Object{}, err
		}
		return p.same(there.Object)
	}
	if err != nil {
		return backupstore.Object{}, stored(err)
	}
	p.dropPieces(ctx, p.place, before)
	if p.object.Modified, err = http.ParseTime(header.Get("Last-Modified")); err != nil {
		now, err := p.find(ctx, p.place, p.object.Name, newest)
		return now.Object, err
	}
	return p.object, nil
}

func (p *put) same(there backupstore.Object) (backupstore.Object, error) {
	if there.SHA256 == p.object.SHA256 && there.Size == p.object.Size {
		return there, nil
	}
	return backupstore.Object{}, backupstore.Exists(p.object.Name)
}

// send sends bytes, and makes the container if it is not there.
func (p *put) send(ctx context.Context, url string, h map[string]string, data []byte) (http.Header, error) {
	if p.options.IfAbsent && h[copyFrom] == "" { // of a copy Swift would hold it against what is copied; who holds the lock has looked
		h["If-None-Match"] = "*"
	}
	made := false
	for failed := 0; ; {
		resp, err := p.place.client.Request(ctx, http.MethodPut, url, &gophercloud.RequestOpts{
			RawBody: bytes.NewReader(data), MoreHeaders: h, OkCodes: []int{http.StatusCreated}, KeepResponseBody: true,
		})
		switch {
		case err == nil:
			return resp.Header, resp.Body.Close()
		case osclient.Is(err, http.StatusNotFound) && !made:
			if err := p.make(ctx, p.place); err != nil {
				return nil, err
			}
			made = true
		case osclient.Is(err, http.StatusForbidden):
			return nil, p.refused(p.place, err)
		case ctx.Err() == nil && trove.KindOf(err) == trove.KindUnavailable && !full(err) && failed < retries:
			failed++
			if err := pause(ctx, failed); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// full reports whether Swift has no room, or lets the account have no more.
func full(err error) bool {
	return osclient.Is(err, http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage)
}

// stored tells a failed write in the words of the port.
func stored(err error) error {
	if full(err) {
		return trove.Wrap(trove.KindUnavailable, errors.Join(backupstore.ErrFull, err),
			"The object store has no room, or the quota of the account is used up; remove what is not needed or raise the quota.")
	}
	return fmt.Errorf("store an object: %w", err)
}

// copyFrom has Swift copy an object instead of taking the bytes of the request.
const copyFrom = "X-Copy-From"

const (
	retries    = 3 // of a write whose bytes are in memory
	firstPause = 100 * time.Millisecond
)

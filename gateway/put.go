package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"

	trove "github.com/trove-dbaas/trove"
)

// put stores an object, once: the same bytes again are a success, others a conflict.
func (g *Gateway) put(w http.ResponseWriter, r *http.Request, q *request) (int, error) {
	meta, err := metaOf(r)
	if err != nil {
		return 0, err
	}
	sum := r.Header.Get(guestapi.HeaderSHA256)
	if done, err := g.stored(w, r, q, sum); done || err != nil {
		return http.StatusOK, err
	}
	if sum == "" && r.ContentLength >= 0 {
		return 0, refuse(http.StatusBadRequest, reasonMismatch, "The object's SHA-256 is needed.")
	}
	account, err := g.budgets.open(r.Context(), q.Grant)
	if err != nil {
		return 0, err
	}
	u := &upload{gateway: g, request: q, http: r, control: http.NewResponseController(w), account: account, sum: sha256.New(), began: clock.System{}.Now()}
	defer func() { g.budgets.close(account) }()
	if r.ContentLength > 0 {
		if err := u.take(r.ContentLength); err != nil {
			return 0, err
		}
	}
	object, err := g.store(q).Put(r.Context(), q.Container, q.name, u, backupstore.PutOptions{
		Size: r.ContentLength, SHA256: sum, IfAbsent: true, Meta: meta,
	})
	_ = u.control.SetReadDeadline(time.Time{})
	g.metrics.bytes.WithLabelValues("in").Add(float64(u.received))
	if err != nil {
		account.give(u.taken)
		return 0, u.reason(err)
	}
	g.log.InfoContext(r.Context(), "object stored", "instance", q.Instance, "op", q.Operation, "object", q.name, "bytes", object.Size)
	writeJSON(w, http.StatusCreated, guestapi.StoredObject{Name: object.Name, Size: object.Size, SHA256: object.SHA256})
	return http.StatusCreated, nil
}

// stored answers for an object that is there already, without reading its bytes again.
func (g *Gateway) stored(w http.ResponseWriter, r *http.Request, q *request, sum string) (bool, error) {
	there, err := g.store(q).Stat(r.Context(), q.Container, q.name)
	if trove.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if sum != there.SHA256 || r.ContentLength != there.Size {
		return false, refuse(http.StatusConflict, reasonSealed, "The object is there, and is not replaced.")
	}
	hangUp(w)
	writeJSON(w, http.StatusOK, guestapi.StoredObject{Name: there.Name, Size: there.Size, SHA256: there.SHA256})
	return true, nil
}

func metaOf(r *http.Request) (map[string]string, error) {
	lines := r.Header.Get(guestapi.HeaderLines)
	if lines == "" {
		return nil, nil //nolint:nilnil // no metadata
	}
	n, err := strconv.ParseInt(lines, 10, 64)
	if err != nil || n < 0 {
		return nil, refuse(http.StatusBadRequest, reasonLength, "The number of lines is none.")
	}
	return map[string]string{MetaLines: strconv.FormatInt(n, 10)}, nil
}

// MetaLines is the metadata of how many lines an object has.
const MetaLines = "lines"

// upload is the body of a PUT as the store reads it: counted, paid for, not faster and not slower than allowed, and at its end compared with the hash that the
// guest sends after it.
type upload struct {
	gateway *Gateway
	request *request
	http    *http.Request
	control *http.ResponseController
	account *account
	sum     hash.Hash

	began    time.Time
	paused   time.Duration // by the guest's limit: not its fault
	received int64
	taken    int64 // of the budget
}

// pieceSize is read at once: the limit of bytes a second is paid for piece by piece.
const pieceSize = 64 << 10

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	p = p[:min(len(p), pieceSize)]
	limits := u.gateway.cfg.Limits
	deadline := u.began.Add(u.paused + limits.Grace + perByte(u.received, limits.MinRate))
	if err := u.control.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := u.http.Body.Read(p)
	if n > 0 {
		u.sum.Write(p[:n])
		u.received += int64(n)
		if u.received > u.taken {
			if err := u.take(u.received - u.taken); err != nil {
				return 0, err
			}
		}
		waited, err := u.request.guest.pay(u.http.Context(), n)
		u.paused += waited
		if err != nil {
			return 0, err
		}
	}
	if errors.Is(err, io.EOF) {
		if bad := u.complete(); bad != nil {
			return n, bad
		}
	}
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// complete compares with the hash in the trailer.
func (u *upload) complete() error {
	if u.http.ContentLength >= 0 || u.http.Header.Get(guestapi.HeaderSHA256) != "" {
		return nil // it came before, and the store compares
	}
	if got := hex.EncodeToString(u.sum.Sum(nil)); u.http.Trailer.Get(guestapi.HeaderSHA256) != got {
		return refuse(http.StatusBadRequest, reasonMismatch, "The object's SHA-256 is another one, or was not sent after it.")
	}
	return nil
}

func (u *upload) take(n int64) error {
	if !u.account.take(n, u.request.MaxBytes) {
		return refuse(http.StatusRequestEntityTooLarge, reasonTooLarge, "The grant does not allow so many bytes.")
	}
	u.taken += n
	return nil
}

// reason finds out whose fault it was that an object was not stored.
func (u *upload) reason(err error) error {
	switch {
	case errors.Is(err, backupstore.ErrFull):
		return &refusal{status: http.StatusInsufficientStorage, reason: reasonFull, message: "The object store has no room.", err: err}
	case errors.Is(err, backupstore.ErrMismatch):
		return &refusal{status: http.StatusBadRequest, reason: reasonMismatch, message: trove.MessageOf(err), err: err}
	case trove.KindOf(err) == trove.KindConflict:
		return &refusal{status: http.StatusConflict, reason: reasonSealed, message: "The object is there, and is not replaced.", err: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{status: http.StatusRequestTimeout, reason: reasonSlow, message: "The object came too slowly.", err: err}
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled):
		return &refusal{status: http.StatusBadRequest, reason: reasonAborted, message: "The object was cut.", err: err}
	}
	return err
}

// perByte is how long a number of bytes may take.
func perByte(n int64, rate int) time.Duration {
	return time.Duration(float64(n) / float64(rate) * float64(time.Second))
}

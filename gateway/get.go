package gateway

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// get sends an object, or with HEAD what is known of it.
func (g *Gateway) get(w http.ResponseWriter, r *http.Request, q *request) (int, error) {
	if r.Method == http.MethodHead {
		o, err := g.store(q).Stat(r.Context(), q.Container, q.name)
		if err != nil {
			return 0, err
		}
		describe(w, o, o.Size)
		w.WriteHeader(http.StatusOK)
		return http.StatusOK, nil
	}
	wanted, err := rangeOf(r)
	if err != nil {
		return 0, err
	}
	body, o, err := g.store(q).Get(r.Context(), q.Container, q.name, wanted)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	length := o.Size - wanted.Offset
	if wanted.Length > 0 {
		length = min(length, wanted.Length)
	}
	describe(w, o, length)
	status := http.StatusOK
	if wanted != (backupstore.Range{}) {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", "bytes "+strconv.FormatInt(wanted.Offset, 10)+"-"+strconv.FormatInt(wanted.Offset+length-1, 10)+"/"+strconv.FormatInt(o.Size, 10))
	}
	w.WriteHeader(status)
	sent, err := g.send(w, r, q, body)
	g.metrics.bytes.WithLabelValues("out").Add(float64(sent))
	if err != nil || sent != length {
		why := &refusal{reason: reasonAborted, err: err}
		g.metrics.refused.WithLabelValues(why.reason).Inc()
		g.tellRefused(r, why)
		_ = http.NewResponseController(w).SetWriteDeadline(clock.System{}.Now()) // the guest must not take what it got for the whole
		return status, nil
	}
	g.log.InfoContext(r.Context(), "object read", "instance", q.Instance, "op", q.Operation, "object", q.name, "bytes", sent)
	return status, nil
}

func describe(w http.ResponseWriter, o backupstore.Object, length int64) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	w.Header().Set(guestapi.HeaderSHA256, o.SHA256)
}

// send copies not faster and not slower than allowed.
func (g *Gateway) send(w http.ResponseWriter, r *http.Request, q *request, body io.Reader) (int64, error) {
	control, buffer := http.NewResponseController(w), make([]byte, pieceSize)
	began, sent, paused := clock.System{}.Now(), int64(0), time.Duration(0)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			waited, err := q.guest.pay(r.Context(), n)
			paused += waited
			if err != nil {
				return sent, err
			}
			deadline := began.Add(paused + g.cfg.Limits.Grace + perByte(sent, g.cfg.Limits.MinRate))
			if err := control.SetWriteDeadline(deadline); err != nil {
				return sent, err
			}
			written, err := w.Write(buffer[:n])
			sent += int64(written)
			if err != nil {
				return sent, err
			}
		}
		if errors.Is(err, io.EOF) {
			err = control.Flush()
			return sent, errors.Join(err, control.SetWriteDeadline(time.Time{}))
		}
		if err != nil {
			return sent, err
		}
	}
}

// rangeOf reads the one form of a range that guests use: "bytes=N-" and "bytes=N-M".
func rangeOf(r *http.Request) (backupstore.Range, error) {
	text := r.Header.Get("Range")
	if text == "" {
		return backupstore.Range{}, nil
	}
	bad := refuse(http.StatusBadRequest, reasonLength, "The range is none.")
	text, ok := strings.CutPrefix(text, "bytes=")
	from, to, dash := strings.Cut(text, "-")
	first, err := strconv.ParseUint(from, 10, 62)
	if !ok || !dash || err != nil {
		return backupstore.Range{}, bad
	}
	wanted := backupstore.Range{Offset: int64(first)}
	if to == "" {
		return wanted, nil
	}
	last, err := strconv.ParseUint(to, 10, 62)
	if err != nil || last < first {
		return backupstore.Range{}, bad
	}
	wanted.Length = int64(last-first) + 1
	return wanted, nil
}

// Package objects is the guest's side of the object gateway: it reads and writes objects with grants that came with a command.
//
// Each request has a connection of its own, because the signature that proves who asks is bound to it. What fails for a reason that may pass is tried again, at the
// next address of the grant, until the context or the grant ends. A Client may be used from several goroutines.
package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/refused"
)

// Identity is who the guest is: the connection to the bus has it.
type Identity interface {
	Sign(text []byte) ([]byte, error)
	CABundle() (string, error)
	// CertificateTime is what certificates are checked against: the machine's clock may be behind.
	CertificateTime() time.Time
}

// Client reads and writes objects.
type Client struct {
	identity Identity
	clock    clock.Clock
	log      *slog.Logger

	// Dial connects to gateways; nil: from where this process is. It is set before the first use.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns a client.
func New(identity Identity, c clock.Clock, log *slog.Logger) *Client {
	return &Client{identity: identity, clock: c, log: log}
}

const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 2 * time.Minute // after the body: a slow disk behind the gateway
	maxAnswer     = 16 << 10
	firstPause    = 200 * time.Millisecond
	maxPause      = 5 * time.Second
)

// ErrHash is returned by the reader of Get when the object is not the one that the gateway announced: nothing that was read is to be used.
var ErrHash = errors.New("the object's SHA-256 is another one than was announced")

// Put stores an object under a name that begins with the grant's prefix. It may be repeated: the same bytes again are a success. A body that is an io.ReadSeeker is read
// from its position, hashed before and sent again if need be; of another one nothing is kept, so that what fails after the first bytes is an error of kind
// Unavailable. The gateway keeps nothing of an object that did not come whole.
func (c *Client) Put(ctx context.Context, grant guestapi.Grant, name string, body io.Reader) (guestapi.StoredObject, error) {
	return c.PutLines(ctx, grant, name, body, -1)
}

// PutLines is Put for text, of which the number of lines is noted; -1: not.
func (c *Client) PutLines(ctx context.Context, grant guestapi.Grant, name string, body io.Reader, lines int64) (guestapi.StoredObject, error) {
	u := &upload{lines: lines, body: body, size: -1, start: -1}
	if err := u.prepare(); err != nil {
		return guestapi.StoredObject{}, fmt.Errorf("store object %s: %w", name, err)
	}
	var stored guestapi.StoredObject
	err := c.each(ctx, grant, name, func(ctx context.Context, base string) error {
		var err error
		stored, err = c.put(ctx, base, grant, name, u)
		return err
	})
	if err != nil {
		return guestapi.StoredObject{}, fmt.Errorf("store object %s: %w", name, err)
	}
	return stored, nil
}

// Get opens an object for reading. The reader returns ErrHash instead of io.EOF if the bytes were not those that the gateway announced, and fails when the
// connection does: what was read is whole only after io.EOF.
func (c *Client) Get(ctx context.Context, grant guestapi.Grant, name string) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := c.each(ctx, grant, name, func(ctx context.Context, base string) error {
		var err error
		body, err = c.get(ctx, base, grant, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", name, err)
	}
	return body, nil
}

// each tries the addresses in order, again and again with growing pauses, until one answers for good or the time is over.
func (c *Client) each(ctx context.Context, grant guestapi.Grant, name string, call func(ctx context.Context, base string) error) error {
	if err := guestapi.CheckObjectName(name); err != nil {
		return err
	}
	if len(grant.URLs) == 0 {
		return trove.Errorf(trove.KindBadRequest, "The grant names no gateway.")
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		var err error
		for _, base := range grant.URLs {
			if err = call(ctx, strings.TrimSuffix(base, "/")); err == nil || trove.IsPermanent(err) || ctx.Err() != nil {
				return err
			}
			c.log.DebugContext(ctx, "object gateway did not answer", "url", base, "err", err)
		}
		if !c.clock.Now().Before(grant.Expires) {
			return err
		}
		if clock.Sleep(ctx, pause/2+rand.N(pause)) != nil { //nolint:gosec // a pause is no secret
			return fmt.Errorf("gave up: %w", err)
		}
	}
}

// upload is a body that may be sent several times.
type upload struct {
	body  io.Reader
	lines int64
	size  int64  // -1: not known before
	sum   string // "": the same
	start int64  // of a body that can be read again; -1: it cannot
	begun bool
}

func (u *upload) prepare() error {
	seeker, ok := u.body.(io.Seeker)
	if !ok {
		return nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil //nolint:nilerr // a pipe: it is read once
	}
	sum := sha256.New()
	if u.size, err = io.Copy(sum, u.body); err != nil {
		return err
	}
	u.sum, u.start = hex.EncodeToString(sum.Sum(nil)), start
	return nil
}

func (u *upload) rewind() error {
	if u.start < 0 {
		if u.begun {
			return trove.Permanent(trove.Errorf(trove.KindUnavailable, "The object was cut, and cannot be sent again."))
		}
		return nil
	}
	_, err := u.body.(io.Seeker).Seek(u.start, io.SeekStart)
	return err
}

// hashed sends the hash after the body.
type hashed struct {
	upload  *upload
	sum     hash.Hash
	trailer http.Header
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.upload.body.Read(p)
	h.upload.begun = h.upload.begun || n > 0
	h.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		h.trailer.Set(guestapi.HeaderSHA256, hex.EncodeToString(h.sum.Sum(nil)))
	}
	return n, err
}

func (c *Client) put(ctx context.Context, base string, grant guestapi.Grant, name string, u *upload) (guestapi.StoredObject, error) {
	var stored guestapi.StoredObject
	if err := u.rewind(); err != nil {
		return stored, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, base+guestapi.ObjectPath+name, http.NoBody)
	if err != nil {
		return stored, trove.Permanent(err)
	}
	r.ContentLength = u.size
	switch {
	case u.start < 0:
		r.Trailer = http.Header{guestapi.HeaderSHA256: nil}
		r.Body = io.NopCloser(&hashed{upload: u, sum: sha256.New(), trailer: r.Trailer})
	case u.size > 0:
		r.Body = io.NopCloser(io.LimitReader(u.body, u.size))
	}
	if u.start >= 0 {
		r.Header.Set(guestapi.HeaderSHA256, u.sum)
	}
	if u.lines >= 0 {
		r.Header.Set(guestapi.HeaderLines, strconv.FormatInt(u.lines, 10))
	}
	r.Header.Set("Expect", "100-continue")       // a refusal comes before the bytes
	resp, done, err := c.do(ctx, r, grant, name) //nolint:bodyclose // done closes it
	if err != nil {
		return stored, err
	}
	defer done()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return stored, err
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return stored, refused.Error("The object gateway", resp, data)
	}
	if err := json.Unmarshal(data, &stored); err != nil {
		return stored, fmt.Errorf("read the gateway's answer: %w", err)
	}
	return stored, nil
}

func (c *Client) get(ctx context.Context, base string, grant guestapi.Grant, name string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+guestapi.ObjectPath+name, http.NoBody)
	if err != nil {
		return nil, trove.Permanent(err)
	}
	resp, done, err := c.do(ctx, r, grant, name) //nolint:bodyclose // done closes it
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer done()
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return nil, err
		}
		return nil, refused.Error("The object gateway", resp, data)
	}
	return &object{body: resp.Body, sum: sha256.New(), want: resp.Header.Get(guestapi.HeaderSHA256), done: done}, nil
}

// object is a body that is compared with its hash.
type object struct {
	body io.Reader
	sum  hash.Hash
	want string
	done func()
}

func (o *object) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	o.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(o.sum.Sum(nil)) != o.want {
		return n, ErrHash
	}
	return n, err
}

func (o *object) Close() error {
	o.done()
	return nil
}

// do connects, signs for this connection, and sends. The answer's body is read before done is called.
func (c *Client) do(ctx context.Context, r *http.Request, grant guestapi.Grant, name string) (resp *http.Response, done func(), err error) {
	conn, err := c.dial(ctx, r.URL)
	if err != nil {
		return nil, nil, err
	}
	state := conn.ConnectionState()
	exported, err := state.ExportKeyingMaterial(guestapi.ObjectExporter, nil, guestapi.ObjectExporterSize)
	if err == nil {
		var signature []byte
		signature, err = c.identity.Sign(guestapi.ObjectText(r.Method, name, grant.Token, exported))
		r.Header.Set(guestapi.HeaderSignature, base64.StdEncoding.EncodeToString(signature))
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("sign the request: %w", err), conn.Close())
	}
	r.Header.Set("Authorization", "Bearer "+grant.Token)
	transport := &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true, ResponseHeaderTimeout: answerTimeout, ExpectContinueTimeout: answerTimeout, DisableCompression: true,
	}
	resp, err = transport.RoundTrip(r)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return resp, func() { _ = resp.Body.Close(); transport.CloseIdleConnections() }, nil
}

func (c *Client) dial(ctx context.Context, to *url.URL) (*tls.Conn, error) {
	bundle, err := c.identity.CABundle()
	if err != nil {
		return nil, fmt.Errorf("read the CA bundle: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(bundle)) {
		return nil, trove.Errorf(trove.KindBadRequest, "The CA bundle holds no certificate.")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	plain, err := dial(ctx, "tcp", to.Host)
	if err != nil {
		return nil, fmt.Errorf("connect to the object gateway: %w", err)
	}
	conn := tls.Client(plain, &tls.Config{
		ServerName: to.Hostname(), RootCAs: roots, MinVersion: tls.VersionTLS13, Time: c.identity.CertificateTime, NextProtos: []string{"http/1.1"},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the object gateway: %w", err), plain.Close())
	}
	return conn, nil
}

// PutBytes is Put of bytes that are in memory.
func (c *Client) PutBytes(ctx context.Context, grant guestapi.Grant, name string, data []byte) (guestapi.StoredObject, error) {
	return c.Put(ctx, grant, name, bytes.NewReader(data))
}

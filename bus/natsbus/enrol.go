package natsbus

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/refused"
)

// The bodies of the enrolment endpoint, shared with the server.
type (
	// EnrolRequest is the body of POST /v1/enrol. Its token is worth something once.
	EnrolRequest struct {
		Token     string `json:"token"`
		PublicKey string `json:"public_key"`
	}
	// RenewRequest is the body of POST /v1/renew.
	RenewRequest struct {
		Instance  string `json:"instance"`
		PublicKey string `json:"public_key"`
		Nonce     string `json:"nonce"`
		Signature string `json:"signature"` // base64 of the signature over RenewText
	}
	// Nonce is the answer to GET /v1/nonce.
	Nonce struct {
		Nonce string `json:"nonce"`
	}
)

// RenewText is what a guest signs to renew its credential. It begins with words, so that the signature is worth nothing elsewhere.
func RenewText(instance, nonce string) []byte {
	return []byte("trove bus credential renewal v1\n" + instance + "\n" + nonce)
}

const (
	callTimeout = 20 * time.Second
	maxAnswer   = 64 << 10
)

// Enrol gets the guest its identity: it makes a key in dir if there is none, and a credential for it with the token. It does nothing if
// the guest of this instance has enrolled. While no endpoint can be reached it tries again, with growing pauses, until ctx ends. A token that
// was used, is unknown or has expired is an error that trove.IsPermanent knows. Tried hears of each attempt that failed and is made again.
func Enrol(ctx context.Context, boot bus.BootData, dir string, tried ...func(error)) error {
	return EnrolBy(ctx, nil, boot, dir, tried...)
}

// EnrolBy is Enrol with what connects to the endpoints; nil: a Dialer.
func EnrolBy(ctx context.Context, dial DialFunc, boot bus.BootData, dir string, tried ...func(error)) error {
	id, done, err := beginEnrolment(dir, boot)
	if err != nil || done {
		return err
	}
	id.dial = orDialer(dial)
	public, err := id.publicKey()
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	caller, err := newCaller(boot.CABundle, time.Time{}, id.dial)
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	defer caller.close()
	for pause := time.Second; ; pause = min(2*pause, 15*time.Second) {
		var c bus.Credential
		err := caller.each(ctx, func(url string) error {
			return caller.post(ctx, url+"/v1/enrol", EnrolRequest{Token: boot.Token, PublicKey: public}, &c)
		}, boot.EnrolURLs)
		if err == nil {
			return id.store(c)
		}
		if trove.KindOf(err) == trove.KindConflict || id.had && trove.IsPermanent(err) {
			// It may have been this guest that used the token, or one before it, with its credential lost on the way or on the disk.
			if _, renewErr := id.renew(ctx); renewErr == nil {
				return nil
			}
		}
		if trove.IsPermanent(err) {
			return fmt.Errorf("enrol: %w", err)
		}
		for _, tell := range tried {
			tell(err)
		}
		if clock.Sleep(ctx, pause/2+rand.N(pause)) != nil { //nolint:gosec // a pause is no secret
			return fmt.Errorf("enrol: gave up waiting for an enrolment endpoint: %w", err)
		}
	}
}

// renew gets a new credential for the key over HTTPS and stores it.
func (id *identity) renew(ctx context.Context) (bus.Credential, error) {
	bundle, known := id.CABundle, time.Time{}
	var newer []string
	if c, err := id.credential(); err == nil {
		bundle, newer = c.CABundle, c.EnrolURLs
		known = issuedAt(c)
	}
	// The boot data's addresses may be of a time that is over; they are the last resort of a guest whose own have changed without it.
	c, err := id.renewAt(ctx, bundle, known, newer, id.EnrolURLs)
	if err != nil && !trove.IsPermanent(err) && id.anew.Load() {
		c, err = id.renewAt(ctx, id.CABundle, known, id.EnrolURLs)
	}
	if err != nil {
		return bus.Credential{}, fmt.Errorf("renew the credential: %w", err)
	}
	return c, id.store(c)
}

// renewAt asks for a new credential at the URLs of the lists, one after the other, and believes who is in the bundle.
func (id *identity) renewAt(ctx context.Context, bundle string, known time.Time, lists ...[]string) (c bus.Credential, err error) {
	caller, err := newCaller(bundle, known, id.dial)
	if err != nil {
		return c, err
	}
	defer caller.close()
	public, err := id.publicKey()
	if err != nil {
		return c, err
	}
	ask := func(url string) error {
		var n Nonce
		if err := caller.get(ctx, url+"/v1/nonce", &n); err != nil {
			return err
		}
		signature, err := id.key.Sign(RenewText(id.Instance, n.Nonce))
		if err != nil {
			return err
		}
		return caller.post(ctx, url+"/v1/renew", RenewRequest{
			Instance: id.Instance, PublicKey: public, Nonce: n.Nonce, Signature: base64.StdEncoding.EncodeToString(signature),
		}, &c)
	}
	return c, caller.each(ctx, ask, lists...)
}

// caller speaks to enrolment endpoints.
type caller struct {
	http  *http.Client
	roots *x509.CertPool
	known atomic.Int64 // a time that has certainly come, in seconds
}

// newCaller trusts the bundle. Known is a time that has certainly come, whatever the machine's clock says.
func newCaller(bundle string, known time.Time, dial DialFunc) (*caller, error) {
	roots, err := pool(bundle)
	if err != nil {
		return nil, err
	}
	c := &caller{roots: roots}
	if !known.IsZero() {
		c.known.Store(known.Unix())
	}
	transport := &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, Time: func() time.Time { return certificateTime(time.Unix(c.known.Load(), 0)) }},
		TLSHandshakeTimeout: 10 * time.Second,
	}
	c.http = &http.Client{Timeout: callTimeout, Transport: transport}
	return c, nil
}

func (c *caller) close() { c.http.CloseIdleConnections() }

// each tries the URLs, those of one list in random order, until one answers. What one endpoint refuses for good, the others refuse too.
func (c *caller) each(ctx context.Context, call func(url string) error, lists ...[]string) error {
	last := error(trove.Errorf(trove.KindBadRequest, "No enrolment endpoint is known."))
	for _, urls := range lists {
		for _, i := range rand.Perm(len(urls)) { //nolint:gosec // an order is no secret
			url := strings.TrimSuffix(urls[i], "/")
			if last = call(url); c.learns(last) {
				last = call(url)
			}
			if last == nil || trove.IsPermanent(last) || ctx.Err() != nil {
				return last
			}
		}
	}
	return last
}

// learns takes the time from a certificate that was refused because it is not valid yet, and reports whether it did: a CA that is believed dates none ahead, so the
// clock of this machine is behind. One that was suspended goes on with the time of before, and would not believe its controllers until it is restarted.
func (c *caller) learns(err error) bool {
	refused, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(refused.UnverifiedCertificates) == 0 {
		return false
	}
	leaf, between := refused.UnverifiedCertificates[0], x509.NewCertPool()
	for _, other := range refused.UnverifiedCertificates[1:] {
		between.AddCert(other)
	}
	if !leaf.NotBefore.After(certificateTime(time.Unix(c.known.Load(), 0))) {
		return false
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: between, CurrentTime: leaf.NotBefore}); err != nil {
		return false
	}
	c.known.Store(leaf.NotBefore.Unix())
	return true
}

func (c *caller) get(ctx context.Context, url string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("call %s: %w", url, trove.Permanent(err))
	}
	return c.do(r, answer)
}

func (c *caller) post(ctx context.Context, url string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("call %s: %w", url, trove.Permanent(err))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("call %s: %w", url, trove.Permanent(err))
	}
	r.Header.Set("Content-Type", "application/json")
	return c.do(r, answer)
}

func (c *caller) do(r *http.Request, answer any) error {
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("call %s: %w", r.URL, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("call %s: %w", r.URL, err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(data, answer); err != nil {
			return fmt.Errorf("read the answer of %s: %w", r.URL, err)
		}
		return nil
	}
	return fmt.Errorf("call %s: %w", r.URL, refused.Error("The enrolment endpoint", resp, data))
}

// certificateTime is the time that certificates are checked against: a machine without a battery starts in 1970, and a clock can be set back, but it
// cannot be earlier than the program was built or than the controller said when it issued the newest credential.
func certificateTime(known time.Time) time.Time {
	now := clock.System{}.Now()
	for _, t := range []time.Time{buildTime(), known} {
		if t.After(now) {
			now = t
		}
	}
	return now
}

func buildTime() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			t, err := time.Parse(time.RFC3339, s.Value)
			if err == nil {
				return t
			}
		}
	}
	return time.Time{}
}

package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// CAPhase is how far the replacement of the CA has come. It is not kept apart: it is what the file of the CA holds, which is replaced as a whole.
type CAPhase string

// The phases of a roll, in their order.
const (
	CAStable    CAPhase = "stable"    // there is one CA
	CAAnnounced CAPhase = "announced" // guests are told the next CA too; the present one signs
	CASwitched  CAPhase = "switched"  // the next CA signs; guests are still told the one before it
)

// authorityName is what the certificates of the CA are kept under with its key, PEM.
const authorityName = "bus-ca.pem"

// roleHeader says in the file what a certificate is there for; a file without roles is of one CA.
const roleHeader = "Trove-Role"

const (
	roleSigner = "signer" // signs server certificates
	roleNext   = "next"   // made, told to guests, does not sign yet
	roleOld    = "old"    // does not sign any more, still told to guests
	roleCross  = "cross"  // a later CA's key, signed by an earlier CA
)

// authorityState is the content of the file. It does not change.
type authorityState struct {
	cert   *x509.Certificate
	key    crypto.Signer
	next   *x509.Certificate // nil: there is none
	nextBy crypto.Signer
	old    *x509.Certificate // nil: there is none
	cross  []*x509.Certificate
}

func (s *authorityState) phase() CAPhase {
	switch {
	case s.next != nil:
		return CAAnnounced
	case s.old != nil:
		return CASwitched
	}
	return CAStable
}

// told are the certificates that guests trust, in an order that does not depend on which of them signs.
func (s *authorityState) told() []*x509.Certificate {
	all := []*x509.Certificate{s.cert}
	for _, c := range []*x509.Certificate{s.next, s.old} {
		if c != nil {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *x509.Certificate) int { return strings.Compare(fingerprint(a), fingerprint(b)) })
	return all
}

func (s *authorityState) bundle() string {
	var b strings.Builder
	for _, c := range s.told() {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.String()
}

func (s *authorityState) pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range s.told() {
		p.AddCert(c)
	}
	return p
}

// canCross says whether the CA may sign another one: those of the first version of this program may not.
func canCross(c *x509.Certificate) bool { return c.MaxPathLen != 0 }

// fingerprint names a CA as operators see it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:8])
}

// encode writes the state as loadState reads it.
func (s *authorityState) encode() ([]byte, error) {
	var out bytes.Buffer
	put := func(role string, c *x509.Certificate, key crypto.Signer) error {
		block := &pem.Block{Type: "CERTIFICATE", Headers: map[string]string{roleHeader: role}, Bytes: c.Raw}
		if err := pem.Encode(&out, block); err != nil || key == nil {
			return err
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		return pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{roleHeader: role}, Bytes: pkcs8})
	}
	err := put(roleSigner, s.cert, s.key)
	if s.next != nil {
		err = errors.Join(err, put(roleNext, s.next, s.nextBy))
	}
	if s.old != nil {
		err = errors.Join(err, put(roleOld, s.old, nil))
	}
	for _, c := range s.cross {
		err = errors.Join(err, put(roleCross, c, nil))
	}
	return out.Bytes(), err
}

func decodeState(data []byte) (*authorityState, error) {
	s := &authorityState{}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if err := s.take(block); err != nil {
			return nil, err
		}
	}
	switch {
	case s.cert == nil || s.key == nil || !s.cert.IsCA:
		return nil, errors.New("the file holds no authority")
	case s.next != nil && s.nextBy == nil:
		return nil, errors.New("the file holds the next authority without its key")
	}
	return s, nil
}

func (s *authorityState) take(block *pem.Block) error {
	role := block.Headers[roleHeader]
	if block.Type == "PRIVATE KEY" {
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return errors.New("the file holds a key that cannot be read") // the cause could show a part of it
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return errors.New("the file holds a key that cannot sign")
		}
		if role == roleNext {
			s.nextBy = signer
		} else {
			s.key = signer
		}
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("the file holds a certificate that cannot be read: %w", err)
	}
	switch role {
	case roleSigner, "":
		s.cert = c
	case roleNext:
		s.next = c
	case roleOld:
		s.old = c
	case roleCross:
		s.cross = append(s.cross, c)
	}
	return nil
}

// authority is the deployment's own CA. Guests trust it and nothing else. All brokers of the deployment have the same; each looks before it uses it whether
// another one has replaced it.
type authority struct {
	kept  keyfile.Keeper
	log   *slog.Logger
	clock clock.Clock

	mu    sync.Mutex
	seen  string // version
	state *authorityState
}

// loadAuthority reads the CA, which is made with the first start.
func loadAuthority(ctx context.Context, kept keyfile.Keeper, c clock.Clock, life time.Duration, log *slog.Logger) (*authority, error) {
	a := &authority{kept: kept, clock: c, log: log}
	_, err := kept.LoadOrMake(ctx, authorityName, func() ([]byte, error) {
		cert, key, err := makeCA(c.Now(), life)
		if err != nil {
			return nil, err
		}
		return (&authorityState{cert: cert, key: key}).encode()
	})
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the bus: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a, a.read()
}

// current returns what is kept now. If it cannot be read what was read before counts: a broker goes on with what it has.
func (a *authority) current() *authorityState {
	a.mu.Lock()
	defer a.mu.Unlock()
	version, err := a.kept.Version(authorityName)
	if err == nil && version != a.seen {
		err = a.read()
	}
	if err != nil {
		a.log.Error("certificate authority of the bus could not be read again", "err", err)
	}
	return a.state
}

// read needs a.mu.
func (a *authority) read() error {
	data, version, err := a.kept.Load(authorityName)
	if err != nil {
		return fmt.Errorf("certificate authority of the bus: %w", err)
	}
	state, err := decodeState(data)
	if err != nil {
		return fmt.Errorf("certificate authority of the bus: %w", trove.Permanent(err))
	}
	a.seen, a.state = version, state
	return nil
}

func (a *authority) bundle() string { return a.current().bundle() }

// Package engineca is the deployment's own certificate authority for databases: what an instance's server shows to its clients is signed by it, so that a
// client that has one file can tell any database of the deployment from an impostor.
//
// The authority lives in the store, its key sealed, so every controller is the same authority. Databases make their own keys and send a request; what a
// certificate names is decided here, from what the store knows of the instance, never taken from the request.
//
// An authority is replaced in time by itself, or when an operator says so. The new one is signed by the one before (RFC 4158 calls that a cross
// certificate), which servers show with their own certificate: clients that know only the old one go on until that ends.
package engineca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/store"
)

// Config is what an authority needs.
type Config struct {
	Store  store.Store
	Sealer secrets.Sealer
	Clock  clock.Clock
	Log    *slog.Logger

	CALife time.Duration // of an authority, 10 years if 0; it is replaced when a quarter is left
	Life   time.Duration // of a database's certificate, 90 days if 0
}

// CA is the authority. It may be used from several goroutines.
type CA struct {
	cfg Config

	mu     sync.Mutex
	signer *signer // the newest one that was opened
}

type signer struct {
	id    string
	cert  *x509.Certificate
	key   crypto.Signer
	cross []byte // PEM
}

// Request is what shall be signed.
type Request struct {
	CSR       []byte // PEM (RFC 2986); only its key counts
	Instance  string
	Hostname  string // "": it has none
	Addresses []trove.Address
}

// Signed is a certificate that was made.
type Signed struct {
	Chain       []byte // PEM: the certificate, and what stands between it and an older authority
	AuthorityID string
	Ends        time.Time
}

// New makes an authority. What is not in the store yet is made with the first signature.
func New(c Config) *CA {
	c.CALife, c.Life = cmp.Or(c.CALife, 10*365*24*time.Hour), cmp.Or(c.Life, 90*24*time.Hour)
	return &CA{cfg: c}
}

// RenewBefore returns when a certificate that ends then or earlier is to be replaced: with a third of its life left.
func (c *CA) RenewBefore() time.Time { return c.cfg.Clock.Now().Add(c.cfg.Life / 3) }

// Current returns the id of the authority that signs, and makes one if there is none or the one that is there gets old. It may be repeated.
func (c *CA) Current(ctx context.Context) (string, error) {
	s, err := c.current(ctx)
	if err != nil {
		return "", err
	}
	return s.id, nil
}

// Bundle returns the certificates of all authorities that are valid, as PEM, the newest first: what a client believes. "" before the first signature.
func (c *CA) Bundle(ctx context.Context) (string, error) {
	return Bundle(ctx, c.cfg.Store, c.cfg.Clock.Now())
}

// Bundle is CA.Bundle for those who do not sign.
func Bundle(ctx context.Context, r store.CertificateReader, now time.Time) (string, error) {
	all, err := r.Authorities(ctx)
	if err != nil {
		return "", fmt.Errorf("read the authorities of databases: %w", err)
	}
	var b strings.Builder
	for _, a := range all {
		if a.Ends.After(now) {
			b.WriteString(a.Certificate)
		}
	}
	return b.String(), nil
}

// Roll makes a new authority, which signs from now on; all databases get new certificates within minutes. With distrust the one before does not sign it and is
// forgotten, which is right after its key was stolen: clients need the new bundle at once. Conflict if another process has made one just now.
func (c *CA) Roll(ctx context.Context, distrust bool) (id string, err error) {
	all, err := c.cfg.Store.Authorities(ctx)
	if err != nil {
		return "", fmt.Errorf("read the authorities of databases: %w", err)
	}
	if len(all) == 0 {
		return c.Current(ctx)
	}
	var before *signer
	if !distrust {
		if before, err = c.open(ctx, all[0]); err != nil {
			return "", err
		}
	}
	made, err := c.make(ctx, before)
	if err != nil {
		return "", err
	}
	err = c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertAuthority(ctx, made, all[0].ID); err != nil || !distrust {
			return err //nolint:wrapcheck // says which
		}
		for _, a := range all {
			if err := tx.DeleteAuthority(ctx, a.ID); err != nil {
				return err //nolint:wrapcheck // says which
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	c.cfg.Log.InfoContext(ctx, "databases have a new certificate authority", "authority", made.ID, "distrust", distrust)
	return made.ID, nil
}

// Sign makes a certificate for the key of the request. BadRequest if the request cannot be used.
func (c *CA) Sign(ctx context.Context, r Request) (Signed, error) {
	key, err := keyOf(r.CSR)
	if err != nil {
		return Signed{}, err
	}
	s, err := c.current(ctx)
	if err != nil {
		return Signed{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return Signed{}, err
	}
	now := c.cfg.Clock.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.Instance}, DNSNames: []string{r.Instance},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(c.cfg.Life), // an hour for clients whose clock is late
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if r.Hostname != "" {
		template.DNSNames = append(template.DNSNames, r.Hostname)
	}
	for _, a := range r.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			return Signed{}, trove.Wrap(trove.KindInternal, err, "Address %q of instance %s is none.", a.Address, r.Instance)
		}
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, key, s.key)
	if err != nil {
		return Signed{}, fmt.Errorf("sign the certificate of %s: %w", r.Instance, err)
	}
	return Signed{Chain: append(encodeCert(der), s.cross...), AuthorityID: s.id, Ends: template.NotAfter}, nil
}

// keyOf returns the key that the request is for, which its sender has.
func keyOf(csr []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, trove.Errorf(trove.KindBadRequest, "The request for a certificate is no PEM of one.")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The request for a certificate cannot be read.")
	}
	switch k := request.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return k, nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return k, nil
		}
	}
	return nil, trove.Errorf(trove.KindBadRequest, "The request for a certificate has a key that is too weak or of an unknown kind.")
}

// current returns the signer, which another process may have replaced.
func (c *CA) current(ctx context.Context) (*signer, error) {
	for range 3 { // another process may be first, and a third one after it
		all, err := c.cfg.Store.Authorities(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the authorities of databases: %w", err)
		}
		if len(all) > 0 && all[0].Ends.Sub(c.cfg.Clock.Now()) > c.cfg.CALife/4 {
			return c.open(ctx, all[0])
		}
		var before *signer
		newest := ""
		if len(all) > 0 {
			if before, err = c.open(ctx, all[0]); err != nil {
				return nil, err
			}
			newest = all[0].ID
		}
		made, err := c.make(ctx, before)
		if err != nil {
			return nil, err
		}
		err = c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.InsertAuthority(ctx, made, newest) })
		switch {
		case err == nil:
			c.cfg.Log.InfoContext(ctx, "databases have a new certificate authority", "authority", made.ID)
			return c.open(ctx, made)
		case trove.KindOf(err) != trove.KindConflict:
			return nil, fmt.Errorf("keep the new authority: %w", err)
		}
	}
	return nil, trove.Errorf(trove.KindUnavailable, "The certificate authority of databases is being replaced; try again.")
}

func (c *CA) open(ctx context.Context, a store.Authority) (*signer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signer != nil && c.signer.id == a.ID {
		return c.signer, nil
	}
	plain, err := c.cfg.Sealer.Open(ctx, purpose(a.ID), a.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("open the key of authority %s: %w", a.ID, err)
	}
	der, err := hex.DecodeString(plain.Reveal())
	if err != nil {
		return nil, errors.New("the key of the authority cannot be read") // the cause could show a part of it
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the key of the authority cannot be read")
	}
	key, ok := parsed.(crypto.Signer)
	block, _ := pem.Decode([]byte(a.Certificate))
	if !ok || block == nil {
		return nil, errors.New("the authority cannot sign")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certificate of authority %s: %w", a.ID, err)
	}
	s := &signer{id: a.ID, cert: cert, key: key}
	if a.Cross != "" {
		s.cross = []byte(a.Cross)
	}
	c.signer = s
	return s, nil
}

// purpose binds a sealed key to its authority.
func purpose(id string) string { return "engine-authority:" + id }

// make makes an authority, signed by the one before too if there is one.
func (c *CA) make(ctx context.Context, before *signer) (store.Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return store.Authority{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return store.Authority{}, err
	}
	now := c.cfg.Clock.Now()
	template := &x509.Certificate{
		// Names differ, because clients choose among the authorities that they know by name.
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Trove databases " + now.UTC().Format("2006-01-02") + " " + serial.Text(16)[:6]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(c.cfg.CALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return store.Authority{}, fmt.Errorf("make an authority: %w", err)
	}
	sum := sha256.Sum256(der)
	a := store.Authority{ID: hex.EncodeToString(sum[:16]), Certificate: string(encodeCert(der)), Made: now, Ends: template.NotAfter}
	if before != nil {
		if template.NotAfter.After(before.cert.NotAfter) {
			template.NotAfter = before.cert.NotAfter
		}
		template.MaxPathLen, template.MaxPathLenZero = 0, true
		cross, err := x509.CreateCertificate(rand.Reader, template, before.cert, &key.PublicKey, before.key)
		if err != nil {
			return store.Authority{}, fmt.Errorf("sign the new authority with the one before: %w", err)
		}
		a.Cross = string(encodeCert(cross))
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return store.Authority{}, fmt.Errorf("write the key of the authority: %w", err)
	}
	if a.SealedKey, err = c.cfg.Sealer.Seal(ctx, purpose(a.ID), trove.Secret(hex.EncodeToString(pkcs8))); err != nil {
		return store.Authority{}, fmt.Errorf("seal the key of the authority: %w", err)
	}
	return a, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return serial.SetBit(serial, 119, 1), nil // of one length, and never 0
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

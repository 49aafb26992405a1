package mariadb

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// selfSignedFor is how long a certificate of our own is valid. A new one is made at each boot of the guest.
const selfSignedFor = 10 * 365 * 24 * time.Hour

// keepTLS stores a given certificate with its key, or forgets an earlier one when there is none.
func (p place) keepTLS(cert, key []byte) error {
	if len(cert) == 0 && len(key) == 0 {
		for _, f := range []string{p.keptCert(), p.keptKey()} {
			if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("forget the certificate: %w", err)
			}
		}
		return nil
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The certificate and its key cannot be used.")
	}
	if err := atomicfile.Write(p.keptKey(), key, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(p.keptCert(), cert, 0o600)
}

// ensureTLS gives the server the certificate that was given last, or one of our own: made in the tmpfs, so that no copy of a volume has its key.
func (e *Engine) ensureTLS(p place, k kept) error {
	if len(k.TLS.CA) > 0 {
		if err := writeFor(p.clientCA(), k.TLS.CA, 0o400, p.UID, p.GID); err != nil {
			return err
		}
	}
	if len(k.TLS.Cert) > 0 {
		return p.writeTLS(k.TLS.Cert, k.TLS.Key)
	}
	cert, err := os.ReadFile(p.keptCert())
	if os.IsNotExist(err) {
		there, err := exists(p.cert())
		if err != nil || there {
			return err
		}
		cert, key, err := selfSigned(k.InstanceID, e.clk.Now())
		if err != nil {
			return err
		}
		return p.writeTLS(cert, key)
	}
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	key, err := os.ReadFile(p.keptKey())
	if err != nil {
		return fmt.Errorf("read the key of the certificate: %w", err)
	}
	return p.writeTLS(cert, key)
}

// writeTLS writes the certificate last: ensureTLS takes it as the sign that both are there.
func (p place) writeTLS(cert, key []byte) error {
	if err := writeFor(p.key(), key, 0o400, p.UID, p.GID); err != nil {
		return err
	}
	return writeFor(p.cert(), cert, 0o400, p.UID, p.GID)
}

func selfSigned(instance string, now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a TLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("make a TLS certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: instance},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor), // an hour for clients whose clock is late
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if instance != "" {
		template.DNSNames = []string{instance}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a TLS certificate: %w", err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a TLS key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}

// UseCertificate implements engine.Certified. FLUSH SSL makes the server read its files again for connections that begin from then on.
func (e *Engine) UseCertificate(ctx context.Context, l engine.Layout, cert, key []byte) error {
	if len(cert) == 0 {
		return trove.Errorf(trove.KindBadRequest, "There is no certificate.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := place{l}
	k, err := p.readKept()
	if err != nil {
		return err
	}
	if err := p.keepTLS(cert, key); err != nil {
		return err
	}
	if k.TLS.Off || len(k.TLS.Cert) > 0 {
		return nil // it is shown when that is over
	}
	if err := p.writeTLS(cert, key); err != nil {
		return err
	}
	err = p.with(ctx, func(db *sql.Conn) error {
		var have string
		if err := db.QueryRowContext(ctx, "SELECT @@global.have_ssl").Scan(&have); err != nil || have != "YES" {
			return err // it waits for a restart anyway
		}
		return exec(ctx, db, "FLUSH SSL")
	})
	if trove.KindOf(err) == trove.KindUnavailable {
		return nil
	}
	if err != nil {
		return fmt.Errorf("give the server its certificate: %w", err)
	}
	return nil
}

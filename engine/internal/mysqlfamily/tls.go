package mysqlfamily

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// keepTLS stores a given certificate with its key, or forgets an earlier one when there is none.
func (p Place) keepTLS(cert, key []byte) error {
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
func (e *Engine) ensureTLS(p Place, k kept) error {
	if len(k.TLS.CA) > 0 {
		if err := guestfiles.Write(p.clientCA(), k.TLS.CA, 0o400, p.UID, p.GID); err != nil {
			return err
		}
	}
	if len(k.TLS.Cert) > 0 {
		return p.writeTLS(k.TLS.Cert, k.TLS.Key)
	}
	cert, err := os.ReadFile(p.keptCert())
	if os.IsNotExist(err) {
		there, err := guestfiles.Exists(p.cert())
		if err != nil || there {
			return err
		}
		cert, key, err := guestfiles.SelfSigned(k.InstanceID, e.clk.Now())
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
func (p Place) writeTLS(cert, key []byte) error {
	if err := guestfiles.Write(p.key(), key, 0o400, p.UID, p.GID); err != nil {
		return err
	}
	return guestfiles.Write(p.cert(), cert, 0o400, p.UID, p.GID)
}

// UseCertificate implements engine.Certified: for connections that begin from then on.
func (e *Engine) UseCertificate(ctx context.Context, l engine.Layout, cert, key []byte) error {
	if len(cert) == 0 {
		return trove.Errorf(trove.KindBadRequest, "There is no certificate.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.Place(l)
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
	err = p.With(ctx, func(db *sql.Conn) error {
		var on bool
		var ca string
		if err := db.QueryRowContext(ctx, p.product.SQL.TLS).Scan(&on, &ca); err != nil || !on {
			return err // it waits for a restart anyway
		}
		return p.reloadTLS(ctx, db, ca != "")
	})
	if trove.KindOf(err) == trove.KindUnavailable {
		return nil
	}
	return err
}

package guestfiles

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// TLSFiles are the files of a server's certificate. Those that the server reads are in the tmpfs, so that no copy of a volume has its own key; a certificate
// that was given is kept on the volume.
type TLSFiles struct {
	Runtime  string // directory of what the server reads
	Kept     string // directory of what was given
	UID, GID int    // the server's
}

// Cert is the certificate that the server reads.
func (f TLSFiles) Cert() string { return filepath.Join(f.Runtime, "tls.crt") }

// Key is the key of it.
func (f TLSFiles) Key() string { return filepath.Join(f.Runtime, "tls.key") }

// ClientCA has the authorities of the server's clients.
func (f TLSFiles) ClientCA() string { return filepath.Join(f.Runtime, "clients-ca.crt") }

func (f TLSFiles) keptCert() string { return filepath.Join(f.Kept, "tls.crt") }
func (f TLSFiles) keptKey() string  { return filepath.Join(f.Kept, "tls.key") }

// Keep stores a given certificate with its key, or forgets an earlier one when there is none.
func (f TLSFiles) Keep(cert, key []byte) error {
	if len(cert) == 0 && len(key) == 0 {
		for _, file := range []string{f.keptCert(), f.keptKey()} {
			if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("forget the certificate: %w", err)
			}
		}
		return nil
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The certificate and its key cannot be used.")
	}
	if err := atomicfile.Write(f.keptKey(), key, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(f.keptCert(), cert, 0o600)
}

// Given returns what Keep stored; nothing if there is nothing.
func (f TLSFiles) Given() (cert, key []byte, err error) {
	if cert, err = os.ReadFile(f.keptCert()); os.IsNotExist(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate: %w", err)
	}
	if key, err = os.ReadFile(f.keptKey()); err != nil {
		return nil, nil, fmt.Errorf("read the key of the certificate: %w", err)
	}
	return cert, key, nil
}

// Ensure gives the server the certificate that was asked for, or else the one that was given, or else one of its own, which is made when there is none.
func (f TLSFiles) Ensure(asked KeptTLS, cert, key []byte, instance string, now time.Time) error {
	if len(asked.CA) > 0 {
		if err := Write(f.ClientCA(), asked.CA, 0o400, f.UID, f.GID); err != nil {
			return err
		}
	}
	switch {
	case len(asked.Cert) > 0:
		return f.Write(asked.Cert, asked.Key)
	case len(cert) > 0:
		return f.Write(cert, key)
	}
	there, err := Exists(f.Cert())
	if err != nil || there {
		return err
	}
	if cert, key, err = SelfSigned(instance, now); err != nil {
		return err
	}
	return f.Write(cert, key)
}

// Write writes the certificate last: Ensure takes it as the sign that both are there.
func (f TLSFiles) Write(cert, key []byte) error {
	if err := Write(f.Key(), key, 0o400, f.UID, f.GID); err != nil {
		return err
	}
	return Write(f.Cert(), cert, 0o400, f.UID, f.GID)
}

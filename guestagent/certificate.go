package guestagent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// The key of the next certificate is made here and stays until a certificate for it has come: a request that is repeated asks for the same. Which
// certificate was used last is kept as its hash, because the command that brought it may be repeated.
const (
	nextKeyFile = "certificate.key"
	usedFile    = "certificate.used"
)

// requestCertificate answers CmdRequestCertificate. The engine need not be up, nor prepared.
func requestCertificate(_ context.Context, a *Agent, _ guestapi.Request) (any, error) {
	if _, ok := a.cfg.Engine.(engine.Certified); !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "Not supported: this database takes no certificates of the service.")
	}
	a.certificates.Lock()
	defer a.certificates.Unlock()
	path := filepath.Join(a.cfg.Layout.State, nextKeyFile)
	encoded, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if encoded, err = newKey(); err == nil {
			err = atomicfile.Write(path, encoded, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a key for the database's certificate: %w", err)
	}
	key, err := parseKey(encoded)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path)) // the next request makes another one
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.cfg.Instance}}, key)
	if err != nil {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	return guestapi.CertificateRequest{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}, nil
}

func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it is for
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it is for
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(encoded []byte) (*ecdsa.PrivateKey, error) {
	if block, _ := pem.Decode(encoded); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, errors.New("the key for the database's certificate cannot be read") // the cause could show a part of it
}

// nextKey returns the key that a certificate is for.
func (a *Agent) nextKey(cert []byte) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(a.cfg.Layout.State, nextKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trove.Errorf(trove.KindConflict, "No certificate was asked for.")
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the certificate: %w", err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The certificate is not for the key that was asked for.")
	}
	return key, nil
}

// dropNextKey forgets the key: the engine has it.
func (a *Agent) dropNextKey() error {
	if err := os.Remove(filepath.Join(a.cfg.Layout.State, nextKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the key of the certificate: %w", err)
	}
	return nil
}

// useCertificate answers CmdUseCertificate.
func useCertificate(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	e, ok := a.cfg.Engine.(engine.Certified)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "Not supported: this database takes no certificates of the service.")
	}
	var args guestapi.CertificateArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	if !a.supervisor.Prepared() {
		return nil, trove.Errorf(trove.KindConflict, "This guest is not prepared yet.")
	}
	a.certificates.Lock()
	defer a.certificates.Unlock()
	used, sum := filepath.Join(a.cfg.Layout.State, usedFile), sha256.Sum256([]byte(args.Certificate))
	mark := hex.EncodeToString(sum[:])
	if last, err := os.ReadFile(used); err == nil && string(last) == mark {
		return nil, a.dropNextKeyOf([]byte(args.Certificate))
	}
	key, err := a.nextKey([]byte(args.Certificate))
	if err != nil {
		return nil, err
	}
	if err := e.UseCertificate(ctx, a.cfg.Layout, []byte(args.Certificate), key); err != nil {
		return nil, fmt.Errorf("give the database its certificate: %w", err)
	}
	if err := atomicfile.Write(used, []byte(mark), 0o600); err != nil {
		return nil, err //nolint:wrapcheck // says which file
	}
	return nil, a.dropNextKey()
}

// dropNextKeyOf forgets the key if it is this certificate's: an agent may have died before it did.
func (a *Agent) dropNextKeyOf(cert []byte) error {
	if _, err := a.nextKey(cert); err != nil {
		return nil //nolint:nilerr // it is a later one's, or gone
	}
	return a.dropNextKey()
}

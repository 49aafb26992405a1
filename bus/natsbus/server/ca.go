package server

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	day      = 24 * time.Hour
)

// authority is the deployment's own CA. Guests trust it and nothing else.
type authority struct {
	cert   *x509.Certificate
	key    crypto.Signer
	bundle string // PEM, what guests get
}

// loadAuthority reads the file "bus-ca.pem", made with the first start: the certificate and its key together.
func loadAuthority(dir string, c clock.Clock) (*authority, error) {
	path := filepath.Join(dir, "bus-ca.pem")
	data, err := keyfile.LoadOrMake(path, func() ([]byte, error) { return makeAuthority(c.Now()) })
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the bus: %w", err)
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the bus: %w", trove.Permanent(err))
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("certificate authority of the bus: %w", trove.Permanent(errors.New("the file holds no authority")))
	}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
	return &authority{cert: pair.Leaf, key: key, bundle: string(bundle)}, nil
}

func makeAuthority(now time.Time) ([]byte, error) {
	publicKey, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificate("Trove bus CA", now, caLife)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, publicKey, key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...), nil
}

func certificate(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-day), NotAfter: now.Add(life), // a day back: guests' clocks differ
	}, nil
}

// issue makes a server certificate for the names, which are host names or addresses.
func (a *authority) issue(names []string, now time.Time) (*tls.Certificate, error) {
	publicKey, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	template, err := certificate("Trove bus", now, leafLife)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, publicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// leaf is the server's certificate. It lives in memory only: a new one is made at each start, and when a third of its life is left.
type leaf struct {
	authority *authority
	names     []string
	clock     clock.Clock

	mu   sync.Mutex
	cert *tls.Certificate
}

func (l *leaf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if l.cert != nil && now.Before(l.cert.Leaf.NotAfter.Add(-leafLife/3)) {
		return l.cert, nil
	}
	cert, err := l.authority.issue(l.names, now)
	if err != nil {
		return nil, err
	}
	l.cert = cert
	return cert, nil
}

func (l *leaf) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: l.get}
}

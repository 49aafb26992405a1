package server

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// The lives that certificates have where nothing else is set.
const (
	DefaultCALife          = 10 * 365 * 24 * time.Hour
	DefaultCertificateLife = 90 * 24 * time.Hour
)

const day = 24 * time.Hour

// brokerName is in every certificate that the CA signs; brokers know each other by it.
const brokerName = "broker.trove.internal"

// makeCA makes a CA. It may sign other CAs: its successor is signed by it, for guests that slept through the change.
func makeCA(now time.Time, life time.Duration) (*x509.Certificate, crypto.Signer, error) {
	publicKey, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	var name [4]byte
	if _, err := rand.Read(name[:]); err != nil {
		return nil, nil, err
	}
	template, err := certificate("Trove bus CA "+hex.EncodeToString(name[:]), now, life)
	if err != nil {
		return nil, nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLen = true, true, -1
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	cert, err := sign(template, template, publicKey, key)
	return cert, key, err
}

// crossSign lets a CA say of another that it may be trusted like itself, for as long as it is itself.
func crossSign(c *x509.Certificate, by *x509.Certificate, key crypto.Signer) (*x509.Certificate, error) {
	template, err := certificate("", time.Time{}, 0)
	if err != nil {
		return nil, err
	}
	template.Subject, template.SubjectKeyId = c.Subject, c.SubjectKeyId
	template.NotBefore, template.NotAfter = c.NotBefore, by.NotAfter
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLen = true, true, -1
	template.KeyUsage = c.KeyUsage
	return sign(template, by, c.PublicKey, key)
}

func sign(template, parent *x509.Certificate, publicKey any, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, publicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
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

// issue makes a server certificate for the names, which are host names or addresses. The chain holds the CA's key as earlier CAs signed it, so that
// who knows one of those only believes it too.
func (s *authorityState) issue(names []string, now time.Time, life time.Duration) (*tls.Certificate, error) {
	publicKey, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	template, err := certificate("Trove bus", now, life)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{brokerName}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	leaf, err := sign(template, s.cert, publicKey, s.key)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	chain := [][]byte{leaf.Raw}
	for _, c := range s.cross {
		if now.Before(c.NotAfter) {
			chain = append(chain, c.Raw)
		}
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// leaf is the server's certificate. It lives in memory only: a new one is made at each start, when a third of its life is left, when the CA was
// replaced, and when the clock was set to before it was made. Connections that are open are not touched.
type leaf struct {
	authority *authority
	names     []string
	life      time.Duration
	clock     clock.Clock

	mu   sync.Mutex
	cert *tls.Certificate
	by   *authorityState
}

func (l *leaf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	state := l.authority.current()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if l.cert != nil && l.by == state && !leafDue(l.cert.Leaf, now) {
		return l.cert, nil
	}
	cert, err := state.issue(l.names, now, l.life)
	if err != nil {
		return nil, err
	}
	l.cert, l.by = cert, state
	return cert, nil
}

// leafDue says whether a server certificate must be replaced.
func leafDue(c *x509.Certificate, now time.Time) bool {
	made := c.NotBefore.Add(day)
	life := c.NotAfter.Sub(made)
	return !now.Before(c.NotAfter.Add(-life/3)) || now.Before(c.NotBefore.Add(day/2))
}

// caDue says whether a CA must be replaced: when a quarter of its life is left.
func caDue(c *x509.Certificate, now time.Time) bool {
	made := c.NotBefore.Add(day)
	return !now.Before(c.NotAfter.Add(-c.NotAfter.Sub(made) / 4))
}

func (l *leaf) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: l.get, Time: l.clock.Now}
}

// routes is how brokers meet: both sides show a certificate of the deployment's CA. Which CAs are believed is looked up with each handshake, because
// they change while the broker runs.
func (l *leaf) routes() *tls.Config {
	c := l.config()
	c.ClientAuth = tls.RequireAnyClientCert
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.get(nil) }
	c.InsecureSkipVerify = true // VerifyConnection verifies, against the CAs of this moment
	c.VerifyConnection = l.verifyBroker
	return c
}

func (l *leaf) verifyBroker(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the other broker showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		DNSName: brokerName, Roots: l.authority.current().pool(), Intermediates: between, CurrentTime: l.clock.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("certificate of the other broker: %w", err)
	}
	return nil
}

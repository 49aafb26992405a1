package dbserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// WriteCertificate writes a certificate that signs itself for an address, and returns its key.
func WriteCertificate(path, address string) (key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		return nil, err
	}
	if key, err = x509.MarshalPKCS8PrivateKey(k); err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// CA returns the file of the certificate that a server with TLS shows.
func (s *Server) CA() string { return filepath.Join(s.dir, "cert.pem") }

// useTLS makes a certificate and lets the server show it.
func (s *Server) useTLS() error {
	key, err := WriteCertificate(s.CA(), "127.0.0.1")
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "key.pem")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := os.Chown(file, nobody, nobody); err != nil {
			return err
		}
	}
	if s.Kind == PostgreSQL {
		s.opts.Args = append(s.opts.Args, "-c", "ssl=on", "-c", "ssl_cert_file="+s.CA(), "-c", "ssl_key_file="+file)
	} else {
		s.opts.Args = append(s.opts.Args, "--ssl-cert="+s.CA(), "--ssl-key="+file)
	}
	return nil
}

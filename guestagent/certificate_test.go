package guestagent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

// signed makes a certificate for the key of a request.
func signed(t *testing.T, csr string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		t.Fatalf("no PEM: %q", csr)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "db"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, request.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (g *guest) request(c *guestapi.Client) string {
	g.t.Helper()
	r, err := c.RequestCertificate(g.t.Context(), g.id)
	if err != nil {
		g.t.Fatal(err)
	}
	return r.CSR
}

func publicKey(t *testing.T, csr string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return string(request.RawSubjectPublicKeyInfo)
}

// TestCertificateOfTheService takes a guest through its certificates, with every command repeated as a lost answer makes it.
func TestCertificateOfTheService(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	c := guestapi.NewClient(g.ctl)
	shows := func(want string) {
		t.Helper()
		if s, err := c.TLS(t.Context(), g.id); err != nil || s.Cert != want {
			t.Errorf("the database shows %q, %v; want %q", s.Cert, err, want)
		}
	}
	shows(fake.OwnCert)
	csr := g.request(c)
	if publicKey(t, g.request(c)) != publicKey(t, csr) {
		t.Error("a request that is repeated is for another key")
	}
	first := signed(t, csr)
	for range 2 {
		if err := c.UseCertificate(t.Context(), g.id, guestapi.CertificateArgs{Certificate: first}); err != nil {
			t.Fatal(err)
		}
	}
	shows(first)
	info, err := os.ReadDir(g.cfg.Layout.State)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range info {
		if f.Name() == "certificate.key" {
			t.Error("the key is kept though the engine has it")
		}
	}
	if err := c.UseCertificate(t.Context(), g.id, guestapi.CertificateArgs{Certificate: signed(t, csr)}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("a certificate that nobody asked for: %v", err)
	}
	next := g.request(c)
	if publicKey(t, next) == publicKey(t, csr) {
		t.Error("the next certificate is for the same key")
	}
	if err := c.UseCertificate(t.Context(), g.id, guestapi.CertificateArgs{Certificate: signed(t, csr)}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("a certificate for the key before: %v", err)
	}
	// The controller that brought the first one asks again, late: the next key stays.
	if err := c.UseCertificate(t.Context(), g.id, guestapi.CertificateArgs{Certificate: first}); err != nil {
		t.Error(err)
	}
	second := signed(t, next)
	if err := c.UseCertificate(t.Context(), g.id, guestapi.CertificateArgs{Certificate: second}); err != nil {
		t.Error(err)
	}
	shows(second)
}

func TestCertificateFromTheFirstStart(t *testing.T) {
	g := newGuest(t)
	g.start()
	c := guestapi.NewClient(g.ctl)
	if err := c.UseCertificate(t.Context(), g.id, guestapi.CertificateArgs{Certificate: "x"}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("before prepare: %v", err)
	}
	cert := signed(t, g.request(c))
	args := prepareArgs()
	args.Certificate = cert
	g.long(guestapi.CmdPrepare, "op/prepare", args)
	if s, err := c.TLS(t.Context(), g.id); err != nil || s.Cert != cert {
		t.Errorf("the database shows %q, %v", s.Cert, err)
	}
}

// TestRequiredTLS: a database whose version requires TLS begins so.
func TestRequiredTLS(t *testing.T) {
	g := newGuest(t)
	g.start()
	args := prepareArgs()
	args.RequireTLS = true
	g.long(guestapi.CmdPrepare, "op/prepare", args)
	if s, err := guestapi.NewClient(g.ctl).TLS(t.Context(), g.id); err != nil || s.Mode != "enforced" {
		t.Errorf("TLS is %q, %v", s.Mode, err)
	}
}

func TestRequiredTLSOfAnEngineThatHasNone(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = plain{g.cfg.Engine}
	g.start()
	args := prepareArgs()
	args.RequireTLS = true
	if end := g.long(guestapi.CmdPrepare, "op/prepare", args); end.State != guestapi.StateFailed || end.Error.Kind != trove.KindNotImplemented {
		t.Errorf("%+v", end)
	}
}

// TestKeyThatCannotBeRead: a file that was damaged does not keep the guest from its next certificate.
func TestKeyThatCannotBeRead(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	c := guestapi.NewClient(g.ctl)
	if err := os.WriteFile(filepath.Join(g.cfg.Layout.State, "certificate.key"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RequestCertificate(t.Context(), g.id); err == nil {
		t.Error("a damaged key was used")
	}
	g.request(c)
}

func TestCertificateOfAnEngineThatTakesNone(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = plain{g.cfg.Engine}
	g.prepared()
	c := guestapi.NewClient(g.ctl)
	if _, err := c.RequestCertificate(t.Context(), g.id); trove.KindOf(err) != trove.KindNotImplemented {
		t.Errorf("%v", err)
	}
}

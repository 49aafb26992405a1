package enginetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// changeTLS takes an engine's TLS through its modes, off, and back; each state lasts over a restart.
func changeTLS(t *testing.T, s Setup) {
	source, ok := s.Engine.(engine.TLSSource)
	if !ok {
		return // it cannot be changed
	}
	ctx, l := t.Context(), s.Layout
	server := started(t, s)
	now := func(on bool, mode engine.TLSMode) engine.TLS {
		t.Helper()
		got, err := source.TLS(ctx, l)
		must(t, err)
		if got.On != on || got.Mode != mode || on == (len(got.Cert) == 0) {
			t.Errorf("TLS() is on %t, %s, with a certificate of %d bytes; want %t, %s", got.On, got.Mode, len(got.Cert), on, mode)
		}
		return got
	}
	set := func(c engine.TLSChange) {
		t.Helper()
		restart, err := source.SetTLS(ctx, l, c)
		must(t, err)
		if restart {
			server.Stop()
			server = Start(t, s)
		}
		must(t, s.Engine.Ping(ctx, l))
	}
	now(true, engine.TLSBuiltin)
	_, err := source.RollbackTLS(ctx, l)
	wantKind(t, "RollbackTLS before any change", err, trove.KindBadRequest)

	cert, key := Certificate(t, "given")
	refuseTLS(t, s, source, cert, key)
	now(true, engine.TLSBuiltin)

	set(engine.TLSChange{Mode: engine.TLSBasic, Cert: cert, Key: key})
	if got := now(true, engine.TLSBasic); !bytes.Equal(got.Cert, cert) {
		t.Error("the certificate is not the one that was given")
	}
	set(engine.TLSChange{Mode: engine.TLSEnforced})
	if got := now(true, engine.TLSEnforced); bytes.Equal(got.Cert, cert) {
		t.Error("the certificate is still the one that was given before")
	}
	set(engine.TLSChange{Mode: engine.TLSMutual, Cert: cert, Key: key, CA: cert})
	now(true, engine.TLSMutual)
	must(t, s.Engine.CreateUser(ctx, l, trove.User{Name: "later", Password: "later-pass"}))
	server.Stop()
	server = Start(t, s)
	now(true, engine.TLSMutual)

	set(engine.TLSChange{Off: true})
	now(false, engine.TLSBuiltin)
	restart, err := source.RollbackTLS(ctx, l)
	must(t, err)
	if restart == s.LiveTLS {
		t.Errorf("RollbackTLS of off needs a restart: %t", restart)
	}
	server.Stop()
	server = Start(t, s)
	if got := now(true, engine.TLSMutual); !bytes.Equal(got.Cert, cert) {
		t.Error("after the rollback the certificate is not the one before")
	}
	_, err = source.RollbackTLS(ctx, l)
	wantKind(t, "a second RollbackTLS", err, trove.KindBadRequest)
	server.Stop()
	if restart, err := source.SetTLS(ctx, l, engine.TLSChange{Mode: engine.TLSBasic}); err != nil || restart && s.Login != nil {
		t.Errorf("SetTLS of a server that is down: restart %t, %v", restart, err)
	}
	server = Start(t, s)
	now(true, engine.TLSBasic)
	if s.Login != nil {
		must(t, s.Login(ctx, l, "alice", alicePassword, "keep"))
		must(t, s.Login(ctx, l, "later", "later-pass", ""))
	}
	server.Stop()
}

// refuseTLS tries what no engine may take.
func refuseTLS(t *testing.T, s Setup, source engine.TLSSource, cert, key []byte) {
	t.Helper()
	for what, c := range map[string]engine.TLSChange{
		"no mode":                   {},
		"an unknown mode":           {Mode: "verify"},
		"the mode of nobody":        {Mode: engine.TLSBuiltin},
		"off with a mode":           {Off: true, Mode: engine.TLSBasic},
		"a certificate, no key":     {Mode: engine.TLSBasic, Cert: cert},
		"a key, no certificate":     {Mode: engine.TLSBasic, Key: key},
		"a certificate that is bad": {Mode: engine.TLSBasic, Cert: []byte("bad"), Key: key},
		"mtls without authorities":  {Mode: engine.TLSMutual, Cert: cert, Key: key},
		"authorities that are bad":  {Mode: engine.TLSMutual, CA: []byte("bad")},
	} {
		_, err := source.SetTLS(t.Context(), s.Layout, c)
		wantKind(t, "SetTLS with "+what, err, trove.KindBadRequest)
	}
}

// Certificate makes a certificate that signs itself, for servers, clients and as an authority.
func Certificate(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// leaf returns the first certificate of a PEM text, as clients see it.
func leaf(t testing.TB, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("there is no certificate")
	}
	return block.Bytes
}

package redistest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/internal/clock"
)

// presented returns the certificate that the server shows to a client.
func presented(t *testing.T, s enginetest.Setup) *x509.Certificate {
	t.Helper()
	var seen *x509.Certificate
	c, err := dial(t.Context(), s.Layout, "alice", password, &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			seen = c.PeerCertificates[0]
			return nil
		},
	})
	must(t, err)
	must(t, c.Close())
	return seen
}

func setTLS(t *testing.T, s enginetest.Setup, c engine.TLSChange) {
	t.Helper()
	restart, err := s.Engine.(engine.TLSSource).SetTLS(t.Context(), s.Layout, c)
	if err != nil || restart {
		t.Fatalf("SetTLS: restart %t, %v", restart, err)
	}
}

func plain(s enginetest.Setup) (redis.Conn, error) {
	return redis.Dial("tcp", net.JoinHostPort(s.Layout.Address, "6379"), redis.DialUsername("alice"), redis.DialPassword(password.Reveal()))
}

func enforced(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	c, err := plain(s)
	must(t, err)
	defer func() { _ = c.Close() }()
	setTLS(t, s, engine.TLSChange{Mode: engine.TLSEnforced})
	if _, err := c.Do("PING"); err == nil {
		t.Error("a connection without TLS goes on")
	}
	if _, err := plain(s); err == nil {
		t.Error("a client comes in without TLS")
	}
	must(t, s.Login(t.Context(), s.Layout, "alice", password, ""))
	setTLS(t, s, engine.TLSChange{Off: true})
	if err := s.Login(t.Context(), s.Layout, "alice", password, ""); err == nil {
		t.Error("a client comes in with TLS that is off")
	}
	again, err := plain(s)
	must(t, err)
	must(t, again.Close())
}

func mutual(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	cert, key := enginetest.Certificate(t, "client")
	other, otherKey := enginetest.Certificate(t, "other")
	setTLS(t, s, engine.TLSChange{Mode: engine.TLSMutual, CA: cert})
	login := func(cert, key []byte) error {
		t.Helper()
		config := &tls.Config{InsecureSkipVerify: true}
		if cert != nil {
			pair, err := tls.X509KeyPair(cert, key)
			must(t, err)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		c, err := dial(t.Context(), s.Layout, "alice", password, config)
		if err == nil {
			_, err = c.Do("PING")
			_ = c.Close()
		}
		return err
	}
	if login(nil, nil) == nil || login(other, otherKey) == nil {
		t.Error("a client comes in without a certificate of the given authority")
	}
	must(t, login(cert, key))
}

func renewed(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	enginetest.Start(t, s)
	before := presented(t, s)
	c := clientConn(t, s)
	cert, key := enginetest.Certificate(t, "next")
	setTLS(t, s, engine.TLSChange{Mode: engine.TLSBasic, Cert: cert, Key: key})
	if got := presented(t, s); got.Equal(before) || got.Subject.CommonName != "next" {
		t.Errorf("the server shows %v", got.Subject)
	}
	if _, err := c.Do("PING"); err != nil {
		t.Errorf("a connection did not outlive the new certificate: %v", err)
	}
}

// weakKey: what the driver cannot see and the server's library refuses leaves all as it was.
func weakKey(t *testing.T, s enginetest.Setup) {
	prepared(t, s, alice())
	srv := enginetest.Start(t, s)
	t.Setenv("GODEBUG", "rsa1024min=0")
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: clock.System{}.Now(), NotAfter: clock.System{}.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	_, err = s.Engine.(engine.TLSSource).SetTLS(t.Context(), s.Layout, engine.TLSChange{
		Mode: engine.TLSEnforced, Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}),
	})
	if trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("SetTLS with a weak key = %v, want BadRequest", err)
	}
	now, err := s.Engine.(engine.TLSSource).TLS(t.Context(), s.Layout)
	if err != nil || now.Mode != engine.TLSBuiltin {
		t.Errorf("the mode after it is %s, %v", now.Mode, err)
	}
	c, err := plain(s)
	must(t, err)
	must(t, c.Close())
	srv.Stop()
	enginetest.Start(t, s)
	presented(t, s)
}

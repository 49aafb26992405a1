package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/engineca"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
)

// TestVersionThatRequiresTLS: users see it, cannot weaken it, and can change what is left.
func TestVersionThatRequiresTLS(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path, version := "/instances/"+id+"/ssl", w.instance(t, id).DatastoreVersionID
	w.must(t, http.StatusOK, "member", http.MethodPost, path, `{"ssl":{"enable":true,"mode":"basic"}}`, nil)
	w.must(t, http.StatusAccepted, "admin", http.MethodPatch, "/mgmt/datastore-versions/"+version, `{"require_tls":true}`, nil)
	var shown wire.DatastoreVersionBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/datastores/versions/"+version, "", &shown)
	if !shown.Version.RequireTLS {
		t.Errorf("%+v", shown.Version)
	}
	for body, text := range map[string]string{
		`{"ssl":{"disable":true}}`:               "requires TLS",
		`{"ssl":{"enable":true}}`:                "enforced and mtls",
		`{"ssl":{"enable":true,"mode":"basic"}}`: "enforced and mtls",
		`{"ssl":{"rollback":true}}`:              "rollback could take away",
	} {
		if rec := w.ask(t, "member", http.MethodPost, path, body); rec.Code != http.StatusBadRequest || !strings.Contains(message(t, rec), text) {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	if w.guests.tls.Mode != "basic" {
		t.Errorf("a refused change reached the guest: %+v", w.guests.tls)
	}
	w.must(t, http.StatusOK, "member", http.MethodPost, path, `{"ssl":{"enable":true,"mode":"enforced"}}`, nil)
	w.must(t, http.StatusAccepted, "admin", http.MethodPatch, "/mgmt/datastore-versions/"+version, `{"require_tls":false}`, nil)
	w.must(t, http.StatusOK, "member", http.MethodPost, path, `{"ssl":{"disable":true}}`, nil)
}

// TestAuthoritiesOfACertificate are shown for a certificate of the service, with the certificate itself, and for no other.
func TestAuthoritiesOfACertificate(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	sealer, err := secretsfile.Open(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca := engineca.New(engineca.Config{Store: w.store, Sealer: sealer, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ca.Sign(t.Context(), engineca.Request{CSR: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), Instance: id})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := ca.Bundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own, _ := serverCertificate(t)
	for _, c := range []struct{ cert, query, want string }{
		{string(signed.Chain), "?include_certificate=true", bundle}, {string(signed.Chain), "", ""}, {own, "?include_certificate=true", ""},
	} {
		w.guests.tls.Cert = c.cert
		var got wire.SSLBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/ssl"+c.query, "", &got)
		if got.SSL.Certificate == nil || got.SSL.Certificate.Authorities != c.want {
			t.Errorf("%s: %+v", c.query, got.SSL.Certificate)
		}
	}
}

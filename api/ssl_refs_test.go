package api_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/internal/openstacktest"
	"github.com/trove-dbaas/trove/secrets/barbican"
)

// vaultWorld is a world with a fake Barbican, a certificate and its key.
type vaultWorld struct {
	*world
	cloud *openstacktest.Cloud
	path  string
	cert  *x509.Certificate
	key   crypto.Signer
}

func newVaultWorld(t *testing.T) *vaultWorld {
	t.Helper()
	c := openstacktest.New(t, "admin")
	for token, who := range tokens {
		c.Token(token, openstacktest.Who{UserID: who.UserID, ProjectID: who.ProjectID, Roles: who.Roles})
	}
	w := &vaultWorld{cloud: c, world: newWorld(t, nil, func(cfg *api.Config) { cfg.Vault = barbican.Vault{Session: c.Session(t)} })}
	w.path = "/instances/" + w.built(t) + "/ssl"
	text, _ := serverCertificate(t)
	block, _ := pem.Decode([]byte(text))
	var err error
	if w.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil { // whether they fit is the guest's to say
		t.Fatal(err)
	}
	return w
}

func (w *vaultWorld) pems(t *testing.T) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(w.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.cert.Raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestSSLFromSecretsOfTheCaller(t *testing.T) {
	w := newVaultWorld(t)
	cert, key := w.pems(t)
	password := w.cloud.PutSecret(project, "password", "text/plain", []byte("of the bundle\n"))
	modern, err := pkcs12.Modern.Encode(w.key, w.cert, []*x509.Certificate{w.cert}, "of the bundle")
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := pkcs12.Legacy.Encode(w.key, w.cert, nil, "of the bundle")
	if err != nil {
		t.Fatal(err)
	}
	put := func(kind string, data []byte) string { return w.cloud.PutSecret(project, "bundle", kind, data) }
	encoded := base64.StdEncoding.EncodeToString(modern)
	for name, tt := range map[string]struct{ container, password, ca string }{
		"PKCS#12":           {put("application/octet-stream", modern), password, cert},
		"old PKCS#12":       {put("application/octet-stream", legacy), password, ""},
		"PKCS#12 in base64": {put("text/plain", []byte(encoded[:64]+"\n"+encoded[64:])), password, cert},
		"PEM":               {put("text/plain", []byte(cert+key+cert)), "", cert},
		"container": {w.cloud.PutContainer(project, map[string]string{
			"certificate": put("text/plain", []byte(cert)), "private_key": put("text/plain", []byte(key)), "intermediates": put("text/plain", []byte(cert)),
		}), "", cert},
	} {
		w.guests.tls.Cert, w.guests.tls.Key, w.guests.tls.CA = "", "", ""
		w.cloud.Requests()
		body := fmt.Sprintf(`{"ssl":{"enable":true,"mode":"mtls","container_ref":%q,"password_ref":%q}}`, tt.container, tt.password)
		if tt.password == "" {
			body = fmt.Sprintf(`{"ssl":{"enable":true,"mode":"mtls","container_ref":%q}}`, tt.container)
		}
		w.must(t, http.StatusOK, "member", http.MethodPost, w.path, body, nil)
		if got := w.guests.tls; got.Cert != cert || got.Key != key || got.CA != tt.ca || got.Mode != "mtls" {
			t.Errorf("%s: the guest was told the mode %s and a certificate of %d bytes", name, got.Mode, len(got.Cert))
		}
		for _, r := range w.cloud.Requests() {
			if r.Who.UserID != "u-member" {
				t.Errorf("%s: %s %s was asked by %+v", name, r.Method, r.Path, r.Who)
			}
		}
	}
}

// TestSecretsOfOthersAreRefused names secrets that the caller may not read: he is refused, nobody asks with the rights of the service, and the guest is not told.
func TestSecretsOfOthersAreRefused(t *testing.T) {
	w := newVaultWorld(t)
	cert, key := w.pems(t)
	own := w.cloud.PutSecret(project, "own", "text/plain", []byte(cert+key))
	foreign := w.cloud.PutSecret(projectOther, "x", "text/plain", []byte(cert+key))
	services := w.cloud.PutSecret(openstacktest.ServiceProject, "trove-master-key", "text/plain", []byte(cert+key))
	bundle, err := pkcs12.Modern.Encode(w.key, w.cert, nil, "right")
	if err != nil {
		t.Fatal(err)
	}
	locked := w.cloud.PutSecret(project, "bundle", "application/octet-stream", bundle)
	wrong := w.cloud.PutSecret(project, "password", "text/plain", []byte("wrong"))
	half := w.cloud.PutContainer(project, map[string]string{"certificate": own})
	leads := w.cloud.PutContainer(project, map[string]string{"certificate": own, "private_key": foreign})
	absent := w.cloud.URL + "/barbican/v1/secrets/" + trove.NewID()
	before := w.guests.tls
	w.cloud.Requests()
	for name, tt := range map[string]struct {
		refs   string
		status int
		text   string
	}{
		"another project's":             {`"container_ref":"` + foreign + `"`, http.StatusForbidden, foreign},
		"the service's":                 {`"container_ref":"` + services + `"`, http.StatusForbidden, services},
		"another project's password":    {`"container_ref":"` + locked + `","password_ref":"` + foreign + `"`, http.StatusForbidden, foreign},
		"a container that leads away":   {`"container_ref":"` + leads + `"`, http.StatusForbidden, foreign},
		"none":                          {`"container_ref":"` + absent + `"`, http.StatusNotFound, absent},
		"no reference":                  {`"container_ref":"http://127.0.0.1/latest/meta-data"`, http.StatusBadRequest, "no reference"},
		"another host's":                {`"container_ref":"http://127.0.0.1:1/v1/secrets/` + trove.NewID() + `"`, http.StatusNotFound, "no secret"},
		"a wrong password":              {`"container_ref":"` + locked + `","password_ref":"` + wrong + `"`, http.StatusBadRequest, "another one"},
		"no bundle":                     {`"container_ref":"` + wrong + `"`, http.StatusBadRequest, "PKCS#12"},
		"half a container":              {`"container_ref":"` + half + `"`, http.StatusBadRequest, "private_key"},
		"a password of nothing":         {`"password_ref":"` + own + `"`, http.StatusBadRequest, "container_ref"},
		"a certificate and a container": {`"container_ref":"` + own + `","certificate":"x"`, http.StatusBadRequest, "Either"},
	} {
		rec := w.ask(t, "member", http.MethodPost, w.path, `{"ssl":{"enable":true,`+tt.refs+`}}`)
		if rec.Code != tt.status || !strings.Contains(message(t, rec), tt.text) || strings.Contains(rec.Body.String(), "PRIVATE KEY") {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	if rec := w.ask(t, "other", http.MethodPost, w.path, `{"ssl":{"enable":true,"container_ref":"`+foreign+`"}}`); rec.Code != http.StatusNotFound {
		t.Errorf("on another project's instance: %d %s", rec.Code, rec.Body)
	}
	if w.guests.tls != before {
		t.Error("the guest was told something")
	}
	for _, r := range w.cloud.Requests() {
		if r.Who.UserID != "u-member" {
			t.Errorf("%s %s was asked by %+v", r.Method, r.Path, r.Who)
		}
	}
}

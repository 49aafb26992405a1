package api_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func serverCertificate(t *testing.T) (cert string, ends time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ends = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db.example"}, NotBefore: ends.Add(-time.Hour), NotAfter: ends,
		DNSNames: []string{"db.example", "db2.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 10)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), ends
}

func TestShowSSL(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	cert, ends := serverCertificate(t)
	w.guests.tls.Cert = cert
	want := wire.SSL{Status: "on", Mode: "builtin", Certificate: &wire.SSLCertificate{
		CN: "db.example", ExpireAt: wire.Time(ends), SAN: []string{"db.example", "db2.example", "10.0.0.10"},
	}}
	for query, payload := range map[string]string{"": "", "?include_certificate=true": cert, "?include_certificate=1": cert, "?include_certificate=0": ""} {
		var got wire.SSLBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/ssl"+query, "", &got)
		want.Certificate.Payload = payload
		if diff := cmp.Diff(want, got.SSL, cmp.Comparer(func(a, b wire.Time) bool { return time.Time(a).Equal(time.Time(b)) })); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	w.guests.tls.Off = true
	rec := w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/ssl", "", nil)
	if rec.Body.String() != `{"ssl":{"status":"off","mode":"builtin"}}` {
		t.Errorf("%s", rec.Body)
	}
	if rec := w.ask(t, "other", http.MethodGet, "/instances/"+id+"/ssl", ""); rec.Code != http.StatusNotFound {
		t.Errorf("another project: %d", rec.Code)
	}
}

// TestShowSSLHasThePortOfTLS: a client of an engine that speaks TLS on a port of its own learns which.
func TestShowSSLHasThePortOfTLS(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.guests.tls.Cert, _ = serverCertificate(t)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		v, err := tx.DatastoreVersion(ctx, w.instance(t, id).DatastoreVersionID)
		if err != nil {
			return err
		}
		v.Capabilities.TLSPort = 6380
		return tx.PutDatastoreVersion(ctx, v)
	})
	for _, off := range []bool{false, true} {
		w.guests.tls.Off = off
		rec := w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/ssl", "", nil)
		if strings.Contains(rec.Body.String(), `"tls_port":6380`) == off {
			t.Errorf("off %v: %s", off, rec.Body)
		}
	}
}

// TestSSLSetsRestartRequired: what the engine takes up with its next start only shows RESTART_REQUIRED until then.
func TestSSLSetsRestartRequired(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/instances/" + id + "/ssl"
	rec := w.must(t, http.StatusOK, "member", http.MethodPost, path, `{"ssl":{"enable":true,"mode":"enforced"}}`, nil)
	if rec.Body.String() != `{"ssl":{"restart_required":false}}` || w.instance(t, id).Task != trove.TaskNone {
		t.Errorf("%s, task %v", rec.Body, w.instance(t, id).Task)
	}
	rec = w.must(t, http.StatusOK, "member", http.MethodPost, path, `{"ssl":{"disable":true}}`, nil)
	var shown wire.InstanceBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &shown)
	if rec.Body.String() != `{"ssl":{"restart_required":true}}` || shown.Instance.Status != "RESTART_REQUIRED" {
		t.Errorf("%s, status %s", rec.Body, shown.Instance.Status)
	}
	rec = w.must(t, http.StatusOK, "member", http.MethodPost, path, `{"ssl":{"rollback":true}}`, nil)
	if rec.Body.String() != `{"ssl":{"status":"on","mode":"enforced","restart_required":true}}` {
		t.Errorf("%s", rec.Body)
	}
}

func TestSSLRefuses(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/instances/" + id + "/ssl"
	for body, want := range map[string]struct {
		status int
		text   string
	}{
		`{}`:                                     {http.StatusBadRequest, "required property"},
		`{"ssl":{}}`:                             {http.StatusBadRequest, "Exactly one of"},
		`{"ssl":{"enable":true,"disable":true}}`: {http.StatusBadRequest, "Exactly one of"},
		`{"ssl":{"enable":"yes"}}`:               {http.StatusBadRequest, "is not of type 'boolean'"},
		`{"ssl":{"enable":true,"mode":"verify"}}`:                                    {http.StatusBadRequest, "Invalid SSL mode 'verify'"},
		`{"ssl":{"disable":true,"mode":"basic"}}`:                                    {http.StatusBadRequest, "for enable only"},
		`{"ssl":{"enable":true,"container_ref":"https://keys.example/v1/secrets"}}`:  {http.StatusNotImplemented, "no key manager"},
		`{"ssl":{"enable":true,"password_ref":"https://keys.example/v1/secrets"}}`:   {http.StatusBadRequest, "container_ref"},
		`{"ssl":{"disable":true,"container_ref":"https://keys.example/v1/secrets"}}`: {http.StatusBadRequest, "for enable only"},
		`{"ssl":{"rollback":true}}`:                                                  {http.StatusBadRequest, "nothing to roll back"},
	} {
		rec := w.ask(t, "member", http.MethodPost, path, body)
		if rec.Code != want.status || !strings.Contains(message(t, rec), want.text) {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	w.change(t, id, func(i *trove.Instance) { i.Task = trove.TaskResizing })
	if rec := w.ask(t, "member", http.MethodPost, path, `{"ssl":{"disable":true}}`); rec.Code != http.StatusUnprocessableEntity {
		t.Errorf("while something is under way: %d %s", rec.Code, rec.Body)
	}
	w.change(t, id, func(i *trove.Instance) { i.Task, i.ReplicaOf = trove.TaskNone, labID })
	if rec := w.ask(t, "member", http.MethodPost, path, `{"ssl":{"disable":true}}`); rec.Code != http.StatusBadRequest {
		t.Errorf("a replica: %d %s", rec.Code, rec.Body)
	}
}

// TestTrap20DisablingSSLThatCannotBeDisabled: tempest takes the error for a feature if it has these words.
func TestTrap20DisablingSSLThatCannotBeDisabled(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.guests.tlsError = trove.Errorf(trove.KindNotImplemented, "Not supported: the TLS of this database cannot be changed.")
	rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/ssl", `{"ssl":{"disable":true}}`)
	if rec.Code < 400 || !strings.Contains(message(t, rec), "Not supported") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.ask(t, "member", http.MethodPost, "/instances/"+id+"/ssl/rollback", `{}`); rec.Code != http.StatusNotFound {
		t.Errorf("the path that tempest expects to fail: %d", rec.Code)
	}
}

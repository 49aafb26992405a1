package taskmanager_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"testing/synctest"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/engineca"
)

// TestCreateHasItsCertificateFromTheFirstStart: for its id and its addresses. The world has a name service, whose name comes later, so another one is due.
func TestCreateHasItsCertificateFromTheFirstStart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		defer w.runConductor()()
		if op := w.carryOut(w.request(trove.OpCreate)); op.State != trove.OperationDone {
			t.Fatalf("create: %+v", op)
		}
		i, err := w.store.Instance(t.Context(), instanceID)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(w.fleet.Certificate(instanceID)))
		if block == nil {
			t.Fatal("it was prepared without a certificate")
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := engineca.Bundle(t.Context(), w.store, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(bundle))
		for _, name := range []string{instanceID, i.Addresses[0].Address} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: time.Now()}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		all, err := w.store.Authorities(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		due, err := w.store.DueCertificates(t.Context(), all[0].ID, time.Now(), time.Now(), 10)
		if err != nil || (len(due) > 0) != (i.Hostname != "") {
			t.Errorf("host name %q; due: %q, %v", i.Hostname, due, err)
		}
	})
}

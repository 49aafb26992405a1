package barbican_test

import (
	"context"
	"crypto/rand"
	"path"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	barbicansecrets "github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/secrets"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/openstacktest"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/secrets/barbican"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/secrets/secretstest"
)

// lab is a name of secrets in a real Barbican, which are removed when the test ends.
func lab(t *testing.T) barbican.Config {
	t.Helper()
	cfg := barbican.Config{Session: openstacktest.Lab(t), Name: "trovetest-" + rand.Text()}
	t.Cleanup(func() { // the last key cannot be dropped
		client, err := cfg.Session.KeyManager()
		if err != nil {
			t.Error(err)
			return
		}
		ctx := context.WithoutCancel(t.Context())
		page, err := barbicansecrets.List(client, barbicansecrets.ListOpts{Name: cfg.Name}).AllPages(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		all, err := barbicansecrets.ExtractSecrets(page)
		if err != nil {
			t.Error(err)
		}
		for _, s := range all {
			remove(t, client, path.Base(s.SecretRef))
		}
	})
	return cfg
}

func remove(t *testing.T, client *gophercloud.ServiceClient, id string) {
	t.Helper()
	if err := barbicansecrets.Delete(context.WithoutCancel(t.Context()), client, id).ExtractErr(); err != nil {
		t.Error(err)
	}
}

func TestConformanceInTheLab(t *testing.T) {
	cfg := lab(t)
	m, err := barbican.Make(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	secretstest.Run(t, func(*testing.T) secrets.Sealer { return m })
	old, err := m.Seal(t.Context(), "p", "secret")
	if err != nil {
		t.Fatal(err)
	}
	made, err := m.Rotate(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := barbican.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, changed := other.Rewrap(old)
	if ids := keyring.KeysIn(again); !changed || ids[0] != made.ID {
		t.Errorf("sealed anew under %v, want %s", ids, made.ID)
	}
	keys, err := other.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	if err := other.Drop(t.Context(), keys[1].ID); err != nil {
		t.Fatal(err)
	}
	if keys, err = m.Keys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("keys %v, %v", keys, err)
	}
}

// TestSecretsOfTenantsInTheLab has a user of another project read his secret, and the service's one refused.
func TestSecretsOfTenantsInTheLab(t *testing.T) {
	service, tenant := openstacktest.Lab(t), openstacktest.LabTenant(t)
	keys, err := tenant.KeyManager()
	if err != nil {
		t.Fatal(err)
	}
	token := trove.Secret(keys.Token())
	made := func(client *gophercloud.ServiceClient, content, encoding, payload string) string {
		t.Helper()
		s, err := barbicansecrets.Create(t.Context(), client, barbicansecrets.CreateOpts{
			Name: "trovetest", Payload: payload, PayloadContentType: content, PayloadContentEncoding: encoding,
		}).Extract()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remove(t, client, path.Base(s.SecretRef)) })
		return s.SecretRef
	}
	v := barbican.Vault{Session: service}
	for ref, want := range map[string]string{
		made(keys, "text/plain", "", "PEM"): "PEM", made(keys, "application/octet-stream", "base64", "AAEC"): "\x00\x01\x02",
	} {
		if got, err := v.Read(t.Context(), token, tenant.ProjectID(), ref); err != nil || got[""].Reveal() != want {
			t.Errorf("%s: %v", ref, err)
		}
	}
	own, err := service.KeyManager()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Read(t.Context(), token, tenant.ProjectID(), made(own, "text/plain", "", "the service's")); trove.KindOf(err) != trove.KindForbidden && !trove.IsNotFound(err) {
		t.Errorf("a secret of another project: %v, want forbidden or not found", err)
	}
	if _, err := v.Read(t.Context(), token, tenant.ProjectID(), own.ServiceURL("secrets", trove.NewID())); !trove.IsNotFound(err) {
		t.Errorf("a secret that is not there: %v", err)
	}
}

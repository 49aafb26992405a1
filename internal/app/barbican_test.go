package app_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/openstacktest"
	"github.com/trove-dbaas/trove/internal/recovery"
	"github.com/trove-dbaas/trove/secrets/barbican"
)

// inBarbican has the configuration name a Barbican for the master key.
func (d *deployment) inBarbican(t *testing.T, c *openstacktest.Cloud) {
	t.Helper()
	d.cfg.Secrets.MasterKey = "barbican:trove"
	d.cfg.OpenStack.AuthURL = c.AuthURL()
	password := filepath.Join(d.cfg.State, d.cfg.OpenStack.PasswordFile)
	if err := os.MkdirAll(filepath.Dir(password), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(password, []byte(openstacktest.ServicePassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTheMasterKeyMovesToBarbican copies it there, replaces it there, and goes back.
func TestTheMasterKeyMovesToBarbican(t *testing.T) {
	d, c := newDeployment(t), openstacktest.New(t, "admin")
	instances := []string{d.create(t), d.create(t)}
	d.inBarbican(t, c)
	d.cfg.Secrets.MasterKey = "file"
	for range 2 {
		if where, err := d.keys(t).CopyMasterKey(t.Context(), "trove"); err != nil || !strings.Contains(where, "Barbican") {
			t.Fatalf("copied to %q, %v", where, err)
		}
	}
	d.readable(t, instances) // the file is as it was
	d.inBarbican(t, c)
	if err := os.Rename(d.master, d.master+".away"); err != nil {
		t.Fatal(err)
	}
	m, err := barbican.Open(t.Context(), barbican.Config{Session: c.Session(t), Name: "trove"})
	if err != nil {
		t.Fatal(err)
	}
	d.sealer = m
	d.readable(t, instances)
	r, err := d.keys(t).RotateMasterKey(t.Context())
	if err != nil || !r.Made || r.Restart || r.Changed != len(instances) {
		t.Fatalf("rotated: %+v, %v", r, err)
	}
	d.readable(t, instances)
	keys, unlisted, err := d.keys(t).MasterKeys(t.Context())
	if err != nil || len(keys) != 2 || keys[0].Texts != len(instances) || len(unlisted) != 0 {
		t.Errorf("keys %+v, %v, %v", keys, unlisted, err)
	}
	if _, err := d.keys(t).PruneMasterKeys(t.Context()); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("pruned at once: %v, want a conflict", err)
	}
	if _, err := d.keys(t).PrepareMasterKey(t.Context()); trove.KindOf(err) != trove.KindNotImplemented {
		t.Errorf("prepared: %v", err)
	}
	c.Away("Barbican", true)
	_, err = d.keys(t).RotateMasterKey(t.Context())
	if trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "Barbican") {
		t.Errorf("without Barbican: %v", err)
	}
	c.Away("Barbican", false)
	c.Away("Keystone", true)
	if _, err = d.keys(t).RotateMasterKey(t.Context()); trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "Barbican") {
		t.Errorf("without Keystone: %v", err)
	}
}

// TestAnExportHasTheMasterKeyOfBarbican restores where there is no Barbican any more.
func TestAnExportHasTheMasterKeyOfBarbican(t *testing.T) {
	d, c := newDeployment(t), openstacktest.New(t, "admin")
	d.inBarbican(t, c)
	m, err := barbican.Make(t.Context(), barbican.Config{Session: c.Session(t), Name: "trove"})
	if err != nil {
		t.Fatal(err)
	}
	lines, err := m.Lines(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(t.TempDir(), "recovery.key")
	public, err := recovery.GenerateKey(identity)
	if err != nil {
		t.Fatal(err)
	}
	path, _, err := app.Export(t.Context(), d.cfg, app.ExportRequest{Output: filepath.Join(t.TempDir(), "x"), Recipients: []string{public}})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := recovery.ReadIdentities(identity)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var found []string
	if _, err := recovery.Read(f, ids, func(_ recovery.Manifest, p recovery.Part, r io.Reader) error {
		data, err := io.ReadAll(r)
		if strings.HasSuffix(p.Name, "/master.key") {
			found = append(found, string(data))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0] != string(lines) {
		t.Errorf("the export has %d master keys, want the one of Barbican and not that of the file", len(found))
	}
}

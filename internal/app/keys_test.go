package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/workflow"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
)

// deployment is a state directory with a store, and the sealer of a service that runs from it.
type deployment struct {
	cfg    config.Config
	store  *sqlstore.Store
	sealer keyring.Master
	master string
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{cfg: config.Default()}
	d.cfg.State = t.TempDir()
	d.master = filepath.Join(app.StateDir(d.cfg.State).Keys(), "master.key")
	var err error
	if d.store, err = sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(d.cfg.State, "store.db"), NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.store.Close() })
	if d.sealer, err = secretsfile.Open(d.master); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deployment) keys(t *testing.T) *app.Keys {
	t.Helper()
	k, err := app.OpenKeys(t.Context(), d.cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// create enqueues the create of an instance with a sealed password, as the API does.
func (d *deployment) create(t *testing.T) string {
	t.Helper()
	i := storetest.Instance("p")
	sealed, err := d.sealer.Seal(t.Context(), trove.SecretPurpose(i.ID), trove.Secret("password of "+i.ID))
	if err != nil {
		t.Fatal(err)
	}
	err = d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertInstance(ctx, i); err != nil {
			return err
		}
		_, err := workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{
			Kind: trove.OpCreate, Target: i.ID, ProjectID: "p", Input: trove.CreateInput{Sealed: sealed},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}

// readable opens the sealed password of each instance with the keys that the file holds now.
func (d *deployment) readable(t *testing.T, instances []string) {
	t.Helper()
	rows, err := d.store.DueOperations(t.Context(), time.Now().Add(time.Hour), len(instances)+1)
	if err != nil || len(rows) != len(instances) {
		t.Fatalf("%d operations, %v", len(rows), err)
	}
	for _, r := range rows {
		text := string(r.Input)
		at := strings.Index(text, keyring.Marker)
		if at < 0 {
			t.Fatalf("nothing sealed in %s", text)
		}
		sealed := text[at : at+strings.Index(text[at:], `"`)]
		got, err := d.sealer.Open(t.Context(), trove.SecretPurpose(r.Target), sealed)
		if err != nil || got.Reveal() != "password of "+r.Target {
			t.Errorf("the password of %s: %v", r.Target, err)
		}
	}
}

// TestTheMasterKeyIsReplaced rotates while a service seals, is cut off in the middle, goes on, and drops the old key.
func TestTheMasterKeyIsReplaced(t *testing.T) {
	d := newDeployment(t)
	var instances []string
	for range 20 {
		instances = append(instances, d.create(t))
	}
	// A rotation that was cut off after the new key was made and some of the texts were sealed anew.
	if _, err := secretsfile.Rotate(d.master, time.Now()); err != nil {
		t.Fatal(err)
	}
	n := 0
	if _, err := d.store.RewriteSealed(t.Context(), func(_ sqlstore.SealedColumn, _, text string) (string, bool) {
		if n++; n > 9 {
			return text, false
		}
		return d.sealer.Rewrap(text)
	}); err != nil {
		t.Fatal(err)
	}
	d.readable(t, instances)
	k := d.keys(t)
	if r, err := k.RotateMasterKey(t.Context()); err != nil || r.Made || r.Changed == 0 {
		t.Fatalf("the rotation that was cut off: %+v, %v", r, err)
	}
	d.readable(t, instances)

	// Another one, while the service seals.
	stop, sealing := make(chan struct{}), sync.WaitGroup{}
	sealing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				instances = append(instances, d.create(t))
			}
		}
	})
	r, err := k.RotateMasterKey(t.Context())
	close(stop)
	sealing.Wait()
	if err != nil || !r.Made || r.Changed < 20 {
		t.Fatalf("the rotation: %+v, %v", r, err)
	}
	d.readable(t, instances)
	if dropped, err := k.PruneMasterKeys(t.Context()); err == nil || len(dropped) > 0 {
		t.Errorf("a key that was just replaced was dropped: %v, %v", dropped, err)
	}
	keys, unlisted, err := k.MasterKeys(t.Context())
	if err != nil || len(keys) != 3 || len(unlisted) > 0 || keys[0].Texts != len(instances) || keys[1].Texts+keys[2].Texts > 0 {
		t.Fatalf("keys %+v, unlisted %v, %v; want all %d texts under the first", keys, unlisted, err, len(instances))
	}
	d.age(t)
	if dropped, err := k.PruneMasterKeys(t.Context()); err != nil || len(dropped) != 2 {
		t.Errorf("dropped %v, %v; want both old keys", dropped, err)
	}
	d.readable(t, instances)
}

// TestANextKeyIsNotPruned prepares a key for other hosts and puts it to use.
func TestANextKeyIsNotPruned(t *testing.T) {
	d := newDeployment(t)
	k := d.keys(t)
	instances := []string{d.create(t)}
	next, err := k.PrepareMasterKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if dropped, err := k.PruneMasterKeys(t.Context()); len(dropped) > 0 || err != nil {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	keys, _, err := k.MasterKeys(t.Context())
	if err != nil || len(keys) != 2 || keys[1].ID != next || !keys[1].Next || keys[0].Next || !keys[0].Seals {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	if r, err := k.RotateMasterKey(t.Context()); err != nil || !r.Made || r.Changed != 1 {
		t.Errorf("the rotation: %+v, %v", r, err)
	}
	if keys, _, err = k.MasterKeys(t.Context()); err != nil || keys[0].ID != next || keys[0].Texts != 1 || keys[1].Next {
		t.Errorf("keys %+v, %v", keys, err)
	}
	d.readable(t, instances)
}

// age makes all keys of the file a day old.
func (d *deployment) age(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(d.master)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		out.WriteString(fields[0] + " " + fields[1] + " " + time.Now().Add(-24*time.Hour).UTC().Format(time.RFC3339) + "\n")
	}
	if err := os.WriteFile(d.master, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsSealedElsewhereKeepsItsKey puts a sealed text where nobody listed one: it must not become unreadable, and it must be told.
func TestWhatIsSealedElsewhereKeepsItsKey(t *testing.T) {
	d := newDeployment(t)
	sealed, err := d.sealer.Seal(t.Context(), "p", "secret")
	if err != nil {
		t.Fatal(err)
	}
	i := storetest.Instance("p")
	i.Name = "x " + sealed
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) }); err != nil {
		t.Fatal(err)
	}
	k := d.keys(t)
	if _, err := k.RotateMasterKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.age(t)
	dropped, err := k.PruneMasterKeys(t.Context())
	if len(dropped) > 0 || err == nil || !strings.Contains(err.Error(), "instance.name") {
		t.Errorf("dropped %v, %v; want an error that names instance.name", dropped, err)
	}
	if got, err := d.sealer.Open(t.Context(), "p", sealed); err != nil || got.Reveal() != "secret" {
		t.Errorf("what is sealed elsewhere: %v", err)
	}
}

// TestContentsOfModulesAreSealedAnew: a large module opens after its master key was replaced and dropped.
func TestContentsOfModulesAreSealedAnew(t *testing.T) {
	d := newDeployment(t)
	m := storetest.Module("p", "licence")
	contents := strings.Repeat("YWJj", 200_000)
	var err error
	if m.Contents, err = d.sealer.Seal(t.Context(), trove.ModulePurpose(m.ID), trove.Secret(contents)); err != nil {
		t.Fatal(err)
	}
	before := m.Contents
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertModule(ctx, m) }); err != nil {
		t.Fatal(err)
	}
	k := d.keys(t)
	if r, err := k.RotateMasterKey(t.Context()); err != nil || r.Changed != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, unlisted, err := k.MasterKeys(t.Context()); err != nil || len(unlisted) > 0 {
		t.Errorf("sealed in places that nobody listed: %v, %v", unlisted, err)
	}
	if m, err = d.store.Module(t.Context(), m.ID); err != nil || m.Contents == before {
		t.Fatalf("the contents were not sealed anew: %v", err)
	}
	got, err := d.sealer.Open(t.Context(), trove.ModulePurpose(m.ID), m.Contents)
	if err != nil || got.Reveal() != contents {
		t.Errorf("the contents do not open any more: %v", err)
	}
}

// TestATokenHasOneUser lets 20 machines use one token at the same time, each with a key of its own, over the real store.
func TestATokenHasOneUser(t *testing.T) {
	d := newDeployment(t)
	i := storetest.Instance("p")
	now := time.Now()
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.InsertInstance(ctx, i); err != nil {
			return err
		}
		return tx.PutEnrolmentToken(ctx, i.ID, "hash", now.Add(time.Minute))
	}); err != nil {
		t.Fatal(err)
	}
	guests := app.NewEnrolments(d.store)
	var won, refused atomic.Int32
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			instance, err := guests.UseEnrolmentToken(t.Context(), "hash", fmt.Sprint("key ", n))
			switch {
			case err == nil && instance == i.ID:
				won.Add(1)
			case trove.KindOf(err) == trove.KindConflict && instance == i.ID:
				refused.Add(1)
			default:
				t.Errorf("%q, %v", instance, err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || refused.Load() != 19 {
		t.Errorf("%d won and %d were refused, want 1 and 19", won.Load(), refused.Load())
	}
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, i.ID, now) }); err != nil {
		t.Fatal(err)
	}
	if _, err := guests.UseEnrolmentToken(t.Context(), "hash", "key"); trove.KindOf(err) != trove.KindUnauthorized {
		t.Errorf("the token of a deleted instance: %v", err)
	}
	if _, err := guests.GuestKey(t.Context(), i.ID); !trove.IsNotFound(err) {
		t.Errorf("the key of a deleted instance: %v", err)
	}
}

// TestAFloodingGuestPutsItsInstanceIntoError has the broker report a flood, and an operator forgive it.
func TestAFloodingGuestPutsItsInstanceIntoError(t *testing.T) {
	d := newDeployment(t)
	i := storetest.Instance("p")
	i.Task, i.ServerStatus = trove.TaskNone, trove.ServerActive
	if err := d.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) }); err != nil {
		t.Fatal(err)
	}
	const sentence = "The guest flooded the message bus."
	app.Alarmed(t.Context(), d.store, server.Alarm{Instance: i.ID, Kind: server.AlarmReused, Sentence: "Somebody has the boot data."})
	app.Alarmed(t.Context(), d.store, server.Alarm{Instance: i.ID, Kind: server.AlarmFlood, Sentence: sentence})
	got, err := d.store.Instance(t.Context(), i.ID)
	if err != nil || got.Status(false) != "ERROR" || got.Fault == nil || got.Fault.Message != sentence {
		t.Errorf("status %s, fault %+v, %v", got.Status(false), got.Fault, err)
	}
	if got.Task != trove.TaskGuestRevoked {
		t.Errorf("task %d", got.Task)
	}
	events, err := d.store.Timeline(t.Context(), i.ID, trove.TimelineMark{}, 10)
	if err != nil || len(events) != 2 || events[0].Kind != trove.EventTokenReused || events[1].Kind != trove.EventGuestRevoked {
		t.Errorf("timeline %+v, %v", events, err)
	}
	if err := d.keys(t).ClearGuest(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	if got, err = d.store.Instance(t.Context(), i.ID); err != nil || got.Status(false) != "ACTIVE" || got.Fault != nil {
		t.Errorf("after the operator forgave it: status %s, fault %+v, %v", got.Status(false), got.Fault, err)
	}
}

// TestAMasterKeyThatSystemdHandsOver is rotated in two steps: the service has a copy of the file, made when it started.
func TestAMasterKeyThatSystemdHandsOver(t *testing.T) {
	d := newDeployment(t)
	handed := filepath.Join(t.TempDir(), "handed.key")
	if err := os.Rename(d.master, handed); err != nil {
		t.Fatal(err)
	}
	if _, err := d.keys(t).RotateMasterKey(t.Context()); !trove.IsNotFound(err) {
		t.Errorf("without the file: %v, want not found", err)
	}
	if _, err := os.Stat(d.master); !os.IsNotExist(err) {
		t.Errorf("a second master key was made: %v", err)
	}
	service, err := secretsfile.Open(handed)
	if err != nil {
		t.Fatal(err)
	}
	d.sealer = service
	instances := []string{d.create(t)}
	k, err := app.OpenKeys(t.Context(), d.cfg, handed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Close() }()
	if r, err := k.RotateMasterKey(t.Context()); err != nil || !r.Made || !r.Restart || r.Changed != 0 {
		t.Fatalf("the first step: %+v, %v", r, err)
	}
	if n, err := k.Reseal(t.Context()); err != nil || n != 1 {
		t.Fatalf("the second step: %d, %v", n, err)
	}
	d.readable(t, instances)
}

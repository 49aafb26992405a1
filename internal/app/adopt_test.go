package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/troveimport"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
)

// foreignCloud is a cloud with an instance of another Trove.
type foreignCloud struct {
	*fake.Cloud
	found cloud.Foreign
	fails error
	did   []string
	back  func() // at the way back
}

func (c *foreignCloud) FindForeign(context.Context, cloud.Adoption) (cloud.Foreign, error) {
	return c.found, nil
}

// step is done when it was called twice.
func (c *foreignCloud) step(what string, err error) (string, error) {
	c.did = append(c.did, what)
	if n := len(c.did); err != nil || n > 1 && c.did[n-2] == what {
		return "", err
	}
	return what, nil
}

func (c *foreignCloud) Adopt(context.Context, cloud.Adoption) (string, error) {
	return c.step("adopt", c.fails)
}

func (c *foreignCloud) GiveBack(context.Context, cloud.Adoption) (string, error) {
	if c.back != nil {
		c.back()
	}
	return c.step("give back", nil)
}

func (c *foreignCloud) FinishAdoption(context.Context, cloud.Adoption) (string, error) {
	return c.step("finish", nil)
}

const adoptImage = "2d7f3c74-6f2a-4b79-ab62-5c3e3c4d5e6f"

type adoptWorld struct {
	cloud   *foreignCloud
	store   *sqlstore.Store
	adopter *app.Adopter
	id      string
}

func newAdoptWorld(t *testing.T, change func(*trove.Instance)) *adoptWorld {
	t.Helper()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	c := &foreignCloud{Cloud: fake.New(fake.Options{Images: []string{adoptImage}, Flavors: []trove.Flavor{{ID: "2", Name: "db.small", RAM: 2048, VCPUs: 1}}}), found: cloud.Foreign{ServerID: trove.NewID(), Server: "shop", State: "ACTIVE", VolumeGiB: 1}}
	flavors, err := c.Flavors(t.Context(), cloud.Rights{})
	if err != nil || len(flavors) == 0 {
		t.Fatalf("flavors %v, %v", flavors, err)
	}
	i := storetest.Instance("p")
	i.ServerStatus, i.Task, i.ComputeID, i.VolumeID, i.FlavorID = trove.ServerNone, trove.TaskNone, c.found.ServerID, trove.NewID(), flavors[0].ID
	i.ReplicaOf, i.Access, i.Held = "", trove.Access{}, map[string]int{trove.QuotaInstances: 1}
	i.Fault = &trove.Fault{Message: troveimport.Imported, Created: time.Now()}
	v := trove.DatastoreVersion{
		ID: i.DatastoreVersionID, DatastoreID: trove.NewID(), DatastoreName: "mariadb", Name: "10.11", Version: "10.11", Manager: "mariadb", Active: true, ImageID: adoptImage,
		Capabilities: trove.Capabilities{Port: 3306},
	}
	change(&i)
	err = st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: v.DatastoreID, Name: "mariadb"}), tx.PutDatastoreVersion(ctx, v),
			tx.TakeQuota(ctx, "p", i.Held), tx.InsertInstance(ctx, i),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.NewAdopter(st, c, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	return &adoptWorld{c, st, a, i.ID}
}

func (w *adoptWorld) plan(t *testing.T) app.AdoptPlan {
	t.Helper()
	p, err := w.adopter.Plan(t.Context(), w.id, "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAdoptionAsksForAMachineAroundTheData(t *testing.T) {
	w := newAdoptWorld(t, func(*trove.Instance) {})
	p := w.plan(t)
	if len(p.Problems) > 0 {
		t.Fatalf("in the way: %q", p.Problems)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var said []string
	err := w.adopter.Adopt(ctx, p, func(doing string) {
		if said = append(said, doing); strings.Contains(doing, "worker") { // nobody works here
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, having said %q", err, said)
	}
	op, err := w.store.OpenOperation(t.Context(), w.id)
	if err != nil || op.Kind != trove.OpCreate {
		t.Fatalf("the operation is %+v, %v", op, err)
	}
	rows, err := w.store.DueOperations(t.Context(), time.Now().Add(time.Hour), 1)
	var in trove.CreateInput
	if err == nil {
		err = json.Unmarshal(rows[0].Input, &in)
	}
	if err != nil || !in.Adopt || in.Flavor.ID != p.Flavor.ID {
		t.Errorf("the input is %+v, %v", in, err)
	}
	i, err := w.store.Instance(t.Context(), w.id)
	if err != nil || i.Task != trove.TaskBuilding || i.Fault != nil || i.Held[trove.QuotaRAM] != p.Flavor.RAM {
		t.Errorf("the instance is %+v, %v", i, err)
	}
	if !slices.Equal(w.cloud.did, []string{"adopt", "adopt"}) {
		t.Errorf("the cloud did %q", w.cloud.did)
	}
	if err := w.adopter.Back(t.Context(), p, func(string) {}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("back while something is being done: %v", err)
	}
}

func TestAnAdoptionThatTheCloudRefusesIsTakenBack(t *testing.T) {
	w := newAdoptWorld(t, func(*trove.Instance) {})
	w.cloud.fails = trove.Errorf(trove.KindBadRequest, "The volume is in another project.")
	p := w.plan(t)
	if err := w.adopter.Adopt(t.Context(), p, func(string) {}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("%v", err)
	}
	if !slices.Equal(w.cloud.did, []string{"adopt", "give back", "give back"}) {
		t.Errorf("the cloud did %q", w.cloud.did)
	}
	if _, err := w.store.OpenOperation(t.Context(), w.id); !trove.IsNotFound(err) {
		t.Errorf("an operation was begun: %v", err)
	}
}

func TestBackAndFinish(t *testing.T) {
	w := newAdoptWorld(t, func(i *trove.Instance) { i.ServerStatus, i.ComputeID, i.Fault = trove.ServerActive, "ours", nil })
	p := w.plan(t)
	if len(p.Problems) == 0 {
		t.Error("an instance that runs here can be taken over")
	}
	if err := w.adopter.Finish(t.Context(), p, func(string) {}); err != nil {
		t.Error(err)
	}
	w.cloud.back = func() { // the service runs, and would make a machine again that ought to be there
		if i, err := w.store.Instance(t.Context(), w.id); err != nil || i.ServerStatus != trove.ServerNone {
			t.Errorf("while it goes back the server status is %q, %v", i.ServerStatus, err)
		}
	}
	if err := w.adopter.Back(t.Context(), p, func(string) {}); err != nil {
		t.Error(err)
	}
	i, err := w.store.Instance(t.Context(), w.id)
	if err != nil || i.ServerStatus != trove.ServerNone || i.ComputeID != w.cloud.found.ServerID || i.Fault == nil || i.Fault.Message != troveimport.Imported {
		t.Errorf("the instance is %+v, %v", i, err)
	}
	w.cloud.found = cloud.Foreign{}
	if err := w.adopter.Back(t.Context(), w.plan(t), func(string) {}); !trove.IsNotFound(err) {
		t.Errorf("back without the old server: %v", err)
	}
	if err := w.adopter.Finish(t.Context(), w.plan(t), func(string) {}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("finish what does not run here: %v", err)
	}
}

func TestWhatStandsInTheWayOfAnAdoption(t *testing.T) {
	for name, change := range map[string]func(*trove.Instance){
		"replica": func(i *trove.Instance) { i.ReplicaOf = trove.NewID() },
		"public":  func(i *trove.Instance) { i.Access.IsPublic = true },
		"flavor":  func(i *trove.Instance) { i.FlavorID = "none" },
	} {
		w := newAdoptWorld(t, change)
		p := w.plan(t)
		if len(p.Problems) != 1 {
			t.Errorf("%s: in the way are %q", name, p.Problems)
		}
		if err := w.adopter.Adopt(t.Context(), p, func(string) {}); trove.KindOf(err) != trove.KindConflict || len(w.cloud.did) > 0 {
			t.Errorf("%s: %v, and the cloud did %q", name, err, w.cloud.did)
		}
	}
}

// TestWhatADriverCannotTakeOverIsLeftRunning: that was said by the guest alone, when the old server had been stopped.
func TestWhatADriverCannotTakeOverIsLeftRunning(t *testing.T) {
	w := newAdoptWorld(t, func(*trove.Instance) {})
	p := w.plan(t)
	p.Version.Manager = "postgresql"
	err := w.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.PutDatastoreVersion(ctx, p.Version) })
	if err != nil {
		t.Fatal(err)
	}
	if p = w.plan(t); len(p.Problems) != 1 || !strings.Contains(p.Problems[0], "postgresql") {
		t.Fatalf("in the way are %q", p.Problems)
	}
	if err := w.adopter.Adopt(t.Context(), p, func(string) {}); trove.KindOf(err) != trove.KindConflict || len(w.cloud.did) > 0 {
		t.Errorf("%v, and the cloud did %q", err, w.cloud.did)
	}
}

package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/machinedata"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager"
)

// openStack is a world whose cloud is an OpenStack over HTTP, in real time.
type openStack struct {
	*world
	c *openstacktest.Cloud
	p *openstack.Provider
}

func newOpenStack(t *testing.T, boot time.Duration) *openStack {
	t.Helper()
	w := newWorld(t, t.TempDir())
	t.Cleanup(w.close)
	o := &openStack{world: w, c: openstacktest.New(t)}
	o.c.Set(func(k *openstacktest.Knobs) { k.Looks = 2 })
	o.c.OnPower(func(instance string, userData []byte) {
		d, err := machinedata.Parse(userData)
		if err != nil {
			t.Errorf("the guest cannot read its user data: %v", err)
			return
		}
		data, err := json.Marshal(d.Boot)
		if err != nil {
			t.Error(err)
		}
		w.fleet.Boot(instance, data)
	}, w.fleet.Halt)
	log := slog.New(slog.DiscardHandler)
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: o.c.URL + "/v3", Username: "trove", Project: "service", Region: "RegionOne", Log: log,
		Password: func() (trove.Secret, error) { return openstacktest.Password, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.p, err = openstack.New(openstack.Config{
		Session: s, Deployment: "dddddddd-0000-4000-8000-000000000002", Log: log, ManagementNetwork: "trove-management", ManagementSecurityGroup: "trove-management",
		PublicNetwork: "public", DefaultNetwork: openstacktest.Network, Look: 5 * time.Millisecond, BootTimeout: boot, VolumeTimeout: time.Minute, PortTimeout: time.Minute,
	}); err != nil {
		t.Fatal(err)
	}
	o.images(t)
	stop := w.runConductor()
	m, err := taskmanager.New(taskmanager.Config{
		Store: w.store, Cloud: o.p, Guests: guestapi.NewClient(w.broker.Conn("taskmanager")), Enrolment: enrolment{}, Sealer: sealer{}, Clock: clock.System{}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.managers = append(w.managers, &manager{Manager: m})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Engine().Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		stop()
		_ = s.Close()
	})
	return o
}

// images gives the versions images that Glance has.
func (o *openStack) images(t *testing.T) {
	t.Helper()
	err := o.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		for id, image := range map[string]string{versionID: openstacktest.Image, newVersion: openstacktest.OldImage} {
			v, err := tx.DatastoreVersion(ctx, id)
			if err != nil {
				return err
			}
			v.ImageID = image
			if err := tx.PutDatastoreVersion(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ends asks for an operation and returns how it ended.
func (o *openStack) ends(kind string) trove.Operation {
	o.t.Helper()
	return o.ended(o.request(kind))
}

func (o *openStack) ended(id string) trove.Operation {
	o.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		op, err := o.store.Operation(o.t.Context(), id)
		if err != nil {
			o.t.Fatal(err)
		}
		if op.State != trove.OperationOpen {
			return op
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%s is still at %s: %s", op.Kind, op.Step, op.Sentence)
		}
		if err := clock.Sleep(o.t.Context(), 5*time.Millisecond); err != nil {
			o.t.Fatal(err)
		}
	}
}

func (o *openStack) well(kind string) {
	o.t.Helper()
	if op := o.ends(kind); op.State != trove.OperationDone {
		o.t.Fatalf("%s ended %s: %s", kind, op.State, op.Error)
	}
}

// says waits until an open operation says something.
func (o *openStack) says(id, what string) {
	o.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		op, err := o.store.Operation(o.t.Context(), id)
		if err != nil || op.State != trove.OperationOpen || time.Now().After(deadline) {
			o.t.Fatalf("%s, %q, %v", op.State, op.Sentence, err)
		}
		if strings.Contains(op.Sentence, what) {
			return
		}
		if err := clock.Sleep(o.t.Context(), 20*time.Millisecond); err != nil {
			o.t.Fatal(err)
		}
	}
}

// nothingLeft checks that no service has anything of ours.
func (o *openStack) nothingLeft() {
	o.t.Helper()
	for _, kind := range []string{"servers", "volumes", "ports", "floatingips", "groups"} {
		if all := o.c.Objects(kind); len(all) != 0 {
			o.t.Errorf("left over: %s %v", kind, all)
		}
	}
	if all := o.c.Objects("security-groups"); len(all) != 1 {
		o.t.Errorf("left over: security groups %v", all)
	}
}

func (o *openStack) server() openstacktest.Object {
	o.t.Helper()
	all := o.c.Objects("servers")
	if len(all) != 1 {
		o.t.Fatalf("%d servers, want 1", len(all))
	}
	return all[0]
}

func TestEveryOperationOnAnOpenStack(t *testing.T) {
	o := newOpenStack(t, time.Minute)
	o.well(trove.OpCreate)
	first := o.server()
	i, err := o.store.Instance(t.Context(), instanceID)
	if err != nil || i.ComputeID != first["id"] || len(i.Addresses) != 2 {
		t.Fatalf("made as %+v: %v", i, err)
	}
	for _, kind := range []string{trove.OpRestart, trove.OpResizeFlavor, trove.OpResizeVolume, trove.OpUpdateAccess, trove.OpStop, trove.OpStart, trove.OpReboot} {
		o.well(kind)
	}
	if s := o.server(); s["id"] != first["id"] || s["flavor"].(map[string]any)["id"] != flavorLarge.ID || s["status"] != "ACTIVE" {
		t.Errorf("the server is %v", s)
	}
	if s := o.server(); s["OS-EXT-SRV-ATTR:host"] != "host1" {
		t.Fatalf("the server is %v: what follows tests nothing", s)
	}
	o.well(trove.OpMigrate)
	if s := o.server(); s["id"] != first["id"] || s["OS-EXT-SRV-ATTR:host"] != "host2" || s["status"] != "ACTIVE" {
		t.Errorf("after the migration the server is %v", s)
	}
	o.well(trove.OpUpgrade)
	if s := o.server(); s["id"] != first["id"] || s["image"].(map[string]any)["id"] != openstacktest.OldImage {
		t.Errorf("after the upgrade the server is %v", s)
	}
	if all := o.c.Objects("volumes"); len(all) != 1 && all[1]["status"] != "deleting" {
		t.Errorf("after the upgrade there are the volumes %v", all)
	}
	o.well(trove.OpUpgradeRollback)
	if s := o.server(); s["id"] != first["id"] || s["image"].(map[string]any)["id"] != openstacktest.Image {
		t.Errorf("after the way back the server is %v", s)
	}
	o.well(trove.OpRebuild) // from the image that it has: the server is made anew
	if s := o.server(); s["id"] == first["id"] {
		t.Error("the rebuild has kept the server")
	}
	o.well(trove.OpDelete)
	o.nothingLeft()
}

// TestAMigrationThatIsCutOffGoesOn: in VERIFY_RESIZE the server waits for somebody to say that it is well, and that may be another taskmanager, or the undo.
func TestAMigrationThatIsCutOffGoesOn(t *testing.T) {
	for name, cancel := range map[string]bool{"Nova is away while it waits": false, "it is given up": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOpenStack(t, time.Minute)
			o.well(trove.OpCreate)
			server := o.server()["id"].(string)
			// The order to move arrives, and none after it.
			mend := o.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: "/compute/v2.1/servers/" + server + "/action", Status: http.StatusServiceUnavailable, After: 1})
			id := o.request(trove.OpMigrate)
			o.says(id, "Nova cannot do this at the moment")
			if s := o.server(); s["status"] != "VERIFY_RESIZE" {
				t.Fatalf("the server is %v: this tests nothing", s)
			}
			want := trove.OperationDone
			if cancel {
				want = trove.OperationUndone
				if err := o.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.CancelOperation(ctx, id, time.Now()) }); err != nil {
					t.Fatal(err)
				}
				o.wake()
			}
			mend()
			if op := o.ended(id); op.State != want {
				t.Errorf("it ended %s: %s", op.State, op.Error)
			}
			if s := o.server(); s["status"] != "ACTIVE" {
				t.Errorf("the server is %v", s)
			}
			o.well(trove.OpDelete)
			o.nothingLeft()
		})
	}
}

func TestARebuildToAnotherImageKeepsTheServer(t *testing.T) {
	o := newOpenStack(t, time.Minute)
	o.well(trove.OpCreate)
	first := o.server()
	err := o.store.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		v, err := tx.DatastoreVersion(ctx, versionID)
		v.ImageID = openstacktest.OldImage
		return errors.Join(err, tx.PutDatastoreVersion(ctx, v))
	})
	if err != nil {
		t.Fatal(err)
	}
	o.well(trove.OpRebuild)
	s := o.server()
	if s["id"] != first["id"] || s["image"].(map[string]any)["id"] != openstacktest.OldImage || s["user_data"] == first["user_data"] {
		t.Errorf("the server is %v", s)
	}
	o.well(trove.OpDelete)
	o.nothingLeft()
}

func TestWhatFailsInAnOpenStackIsANamedFaultAndLeavesNothing(t *testing.T) {
	const neverReports = "a guest that never reports" // its time has to pass
	for name, c := range map[string]struct {
		knob func(*openStack)
		task trove.Task
		want string
	}{
		"no valid host": {
			func(o *openStack) { o.c.Set(func(k *openstacktest.Knobs) { k.NoValidHost = true }) }, trove.TaskBuildErrorServer, "Nova found no host that has room for it",
		},
		"a port that is not bound": {
			func(o *openStack) { o.c.Set(func(k *openstacktest.Knobs) { k.NoBinding = true }) }, trove.TaskBuildErrorServer, "Neutron could not bind the port",
		},
		"a volume in error": {
			func(o *openStack) { o.c.Set(func(k *openstacktest.Knobs) { k.VolumeError = true }) }, trove.TaskBuildErrorVolume, "Could not find any available weighted backend",
		},
		"a quota of Cinder": {
			func(o *openStack) {
				o.c.Set(func(k *openstacktest.Knobs) { k.Gigabytes = 1 })
				o.c.Add("volumes", openstacktest.Object{"name": "somebody's", "size": 1.0, "status": "available", "attachments": []openstacktest.Object{}})
			}, trove.TaskBuildErrorVolume, "VolumeSizeExceedsAvailableQuota",
		},
		neverReports: {
			func(o *openStack) { o.fleet.Mute(instanceID) }, trove.TaskBuildErrorTimeout, "its image does not boot, or the guest cannot reach the controllers",
		},
		"no router": {
			func(o *openStack) { o.c.Set(func(k *openstacktest.Knobs) { k.NoRouter = true }) }, trove.TaskBuildErrorPort, "has no router to the public network",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			boot := 50 * time.Second // too short to make another machine
			if name == neverReports {
				boot = 8 * time.Second
			}
			o := newOpenStack(t, boot)
			c.knob(o)
			op := o.ends(trove.OpCreate)
			i, err := o.store.Instance(t.Context(), instanceID)
			if err != nil || op.State != trove.OperationUndone || i.Fault == nil || i.Task != c.task || !strings.Contains(i.Fault.Message, c.want) {
				t.Errorf("it ended %s as %v: %+v, %v", op.State, i.Task, i.Fault, err)
			}
			if name == "a quota of Cinder" {
				return
			}
			o.nothingLeft()
		})
	}
}

func TestServicesThatAreAwayDuringACreateAreWaitedFor(t *testing.T) {
	for name, path := range map[string]string{"Nova": "/compute", "Cinder": "/volume", "Neutron": "/network", "Keystone": "/v3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOpenStack(t, time.Minute)
			mend := o.c.Break(openstacktest.Fault{Path: path, Status: http.StatusServiceUnavailable})
			if name == "Keystone" {
				o.c.ExpireTokens()
			}
			id := o.request(trove.OpCreate)
			o.says(id, name)
			mend()
			if op := o.ended(id); op.State != trove.OperationDone {
				t.Errorf("it ended %s: %s", op.State, op.Error)
			}
			o.well(trove.OpDelete)
			o.nothingLeft()
		})
	}
}

// TestAMachineThatNovaCouldNotBuildIsMadeAnew has Nova fail of what passes, such as ports that are not bound when Neutron was just away.
func TestAMachineThatNovaCouldNotBuildIsMadeAnew(t *testing.T) {
	t.Parallel()
	o := newOpenStack(t, 10*time.Minute)
	o.c.Set(func(k *openstacktest.Knobs) { k.NotBuilt = 2 })
	o.well(trove.OpCreate)
	if all := o.c.Objects("servers"); len(all) != 1 {
		t.Errorf("there are %d servers: %v", len(all), all)
	}
	o.well(trove.OpDelete)
}

// TestAMachineThatNoHostHadRoomForIsMadeAnewOnce has the scheduler find no host once, as while Placement does not answer, and for good.
func TestAMachineThatNoHostHadRoomForIsMadeAnewOnce(t *testing.T) {
	t.Parallel()
	o := newOpenStack(t, 10*time.Minute)
	o.c.Set(func(k *openstacktest.Knobs) { k.NoRoom = 1 })
	o.well(trove.OpCreate)
	o.well(trove.OpDelete)
	o.nothingLeft()
	o = newOpenStack(t, 10*time.Minute)
	o.c.Set(func(k *openstacktest.Knobs) { k.NoRoom = 2 })
	if op := o.ends(trove.OpCreate); op.State != trove.OperationUndone || !strings.Contains(op.Error, "Nova found no host that has room for it") {
		t.Errorf("it ended %s: %s", op.State, op.Error)
	}
	o.nothingLeft()
}

// TestAMachineThatNovaNeverBuildsIsAFault has Nova fail of what might have passed, again and again.
func TestAMachineThatNovaNeverBuildsIsAFault(t *testing.T) {
	t.Parallel()
	o := newOpenStack(t, 10*time.Minute)
	o.c.Set(func(k *openstacktest.Knobs) { k.NotBuilt = 100 })
	if op := o.ends(trove.OpCreate); op.State != trove.OperationUndone || !strings.Contains(op.Error, "Nova could build it on no host") {
		t.Errorf("it ended %s: %s", op.State, op.Error)
	}
	if all := o.c.Objects("servers"); len(all) != 0 {
		t.Errorf("left over: %v", all)
	}
}

// TestAResizeThatComesToNothingAtOnceIsNotDone has Nova give up a resize before it is looked at: the server runs, with the flavor that it had.
func TestAResizeThatComesToNothingAtOnceIsNotDone(t *testing.T) {
	o := newOpenStack(t, 10*time.Minute)
	o.well(trove.OpCreate)
	o.c.Set(func(k *openstacktest.Knobs) { k.Looks, k.NoResize = 0, true })
	if op := o.ends(trove.OpResizeFlavor); op.State != trove.OperationUndone || !strings.Contains(op.Error, "no host has room") {
		t.Errorf("it ended %s: %s", op.State, op.Error)
	}
}

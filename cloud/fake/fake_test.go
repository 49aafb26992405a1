package fake_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/cloudtest"
	"github.com/trove-dbaas/trove/cloud/fake"
)

const image = "0a4b1c2d-0000-4000-8000-00000000000a"

func setup(opt fake.Options) func(t *testing.T) cloudtest.Setup {
	return func(*testing.T) cloudtest.Setup {
		opt.Images = []string{image}
		opt.PoolGiB = 20
		c := fake.New(opt)
		return cloudtest.Setup{
			Provider: c,
			Reopen:   func(*testing.T) cloud.Provider { return c.Reopen() },
			ImageID:  image,
			PoolGiB:  21,
			Hosts:    max(len(opt.Hosts), 1),
			Rules: func(t *testing.T, instance string) (trove.Access, []int) {
				t.Helper()
				access, ports, ok := c.Rules(instance)
				if !ok {
					t.Errorf("no rules for %s", instance)
				}
				return access, ports
			},
			Leftovers: func(*testing.T) []string { return c.Leftovers() },
		}
	}
}

func TestConformance(t *testing.T) {
	t.Run("AtOnce", func(t *testing.T) { cloudtest.Run(t, setup(fake.Options{Domain: "db.example"})) })
	t.Run("TwoHosts", func(t *testing.T) { cloudtest.Run(t, setup(fake.Options{Looks: 1, Hosts: []string{"h1", "h2"}})) })
	t.Run("AfterThreeLooks", func(t *testing.T) { cloudtest.Run(t, setup(fake.Options{Looks: 3})) })
}

// instance makes a volume and a network in a new cloud with a log of what its hooks saw.
func instance(t *testing.T) (c *fake.Cloud, id string, seen *[]string) {
	t.Helper()
	seen = &[]string{}
	c = fake.New(fake.Options{
		Images: []string{image},
		Boot:   func(instance string, data []byte) { *seen = append(*seen, "boot "+string(data)+" "+instance) },
		Halt:   func(instance string) { *seen = append(*seen, "halt "+instance) },
	})
	id = trove.NewID()
	if _, err := c.EnsureVolume(t.Context(), cloud.VolumeSpec{Instance: id, SizeGiB: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.EnsureNetwork(t.Context(), cloud.NetworkSpec{Instance: id}); err != nil {
		t.Fatal(err)
	}
	return c, id, seen
}

func spec(id string) cloud.MachineSpec {
	return cloud.MachineSpec{Instance: id, ImageID: image, Flavor: trove.Flavor{ID: "1", RAM: 512, VCPUs: 1}, BootData: []byte("data")}
}

func TestBootAndHaltFollowTheMachine(t *testing.T) {
	c, id, seen := instance(t)
	ctx := t.Context()
	steps := []func() error{
		func() error { _, err := c.EnsureMachine(ctx, spec(id)); return err },
		func() error { _, err := c.EnsureMachine(ctx, spec(id)); return err },
		func() error { return c.StopMachine(ctx, id) },
		func() error { return c.StopMachine(ctx, id) },
		func() error { _, err := c.EnsureMachine(ctx, spec(id)); return err },
		func() error { return c.RebootMachine(ctx, id) },
		func() error { c.CrashMachine(id, "it fell over"); return nil },
		func() error { return c.RebootMachine(ctx, id) },
		func() error { return c.RemoveMachine(ctx, id) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	boot, halt := "boot data "+id, "halt "+id
	if diff := cmp.Diff([]string{boot, halt, boot, halt, boot, halt, boot, halt}, *seen); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
}

func TestFailNextFailsInOrderAndDoesNothing(t *testing.T) {
	c, id, seen := instance(t)
	one, two := errors.New("one"), errors.New("two")
	c.FailNext("EnsureMachine", one)
	c.FailNext("EnsureMachine", two)
	for _, want := range []error{one, two, nil} {
		if len(*seen) != 0 {
			t.Fatalf("a failed call booted: %v", *seen)
		}
		if _, err := c.EnsureMachine(t.Context(), spec(id)); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
	}
	c.FailAlways(fake.AnyOp, one)
	for range 2 {
		if _, err := c.Flavors(t.Context(), cloud.AsService()); !errors.Is(err, one) {
			t.Errorf("error %v, want %v", err, one)
		}
	}
	c.FailAlways(fake.AnyOp, nil)
	if _, err := c.Flavors(t.Context(), cloud.AsService()); err != nil {
		t.Error(err)
	}
}

func TestLoseDoesItAndReturnsErrLost(t *testing.T) {
	c, id, seen := instance(t)
	c.Lose("EnsureMachine")
	if _, err := c.EnsureMachine(t.Context(), spec(id)); !errors.Is(err, fake.ErrLost) {
		t.Errorf("error %v, want ErrLost", err)
	}
	if m, err := c.FindMachine(t.Context(), id); err != nil || m.State != cloud.MachineRunning {
		t.Errorf("FindMachine: %+v, %v; want it running", m, err)
	}
	if diff := cmp.Diff([]string{"boot data " + id}, *seen); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
}

func TestOnCallMayCancelBeforeAndAfter(t *testing.T) {
	for when, done := range map[string]bool{"before": false, "after": true} {
		c, id, _ := instance(t)
		ctx, cancel := context.WithCancel(t.Context())
		c.OnCall(func(op, of string) {
			if op == when+" EnsureMachine" && of == id {
				cancel()
			}
		})
		if _, err := c.EnsureMachine(ctx, spec(id)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want context.Canceled", when, err)
		}
		if got := slices.Contains(c.Leftovers(), "machine "+id); got != done {
			t.Errorf("cancelled %s the call: machine exists %v, want %v", when, got, done)
		}
	}
}

func TestDelayWaitsAndEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fake.New(fake.Options{})
		c.Delay("Flavors", time.Minute)
		begin := time.Now()
		if _, err := c.Flavors(t.Context(), cloud.AsService()); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("error %v after %v, want none after a minute", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Flavors(ctx, cloud.AsService()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
	})
}

func TestThingsThatBreak(t *testing.T) {
	c, id, _ := instance(t)
	if _, err := c.EnsureMachine(t.Context(), spec(id)); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveVolume(t.Context(), id); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("RemoveVolume under the machine: error %v, want a conflict", err)
	}
	c.CrashMachine(id, "out of memory")
	if m, err := c.FindMachine(t.Context(), id); err != nil || m.State != cloud.MachineStopped || m.Reason != "out of memory" {
		t.Errorf("after a crash: %+v, %v", m, err)
	}
	c.FailMachine(id, "no host")
	if m, err := c.EnsureMachine(t.Context(), spec(id)); err != nil || m.State != cloud.MachineFailed || m.Reason != "no host" {
		t.Errorf("after a failure: %+v, %v", m, err)
	}
	c.VanishMachine(id)
	if _, err := c.FindMachine(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("after vanishing: error %v, want not found", err)
	}
	c.FailVolume(id, "disk broken")
	if v, err := c.FindVolume(t.Context(), id); err != nil || v.Ready || v.Failed != "disk broken" {
		t.Errorf("after a failed volume: %+v, %v", v, err)
	}
	if diff := cmp.Diff([]string{"network " + id, "volume " + id}, c.Leftovers()); diff != "" {
		t.Errorf("Leftovers (-want +got):\n%s", diff)
	}
}

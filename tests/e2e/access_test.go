package e2e_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// TestAccessRules changes who may connect, on a running instance.
func TestAccessRules(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("access-1", "--allowed-cidr", "0.0.0.0/0")
	reachable := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return open(t, i, "app", password, "app").PingContext(ctx)
	}
	if err := reachable(patience); err != nil {
		t.Fatalf("open to everybody: %v", err)
	}
	d.trove("instance", "update", i.ID, "--allowed-cidr", "192.0.2.1", "--wait")
	if err := reachable(3 * time.Second); err == nil {
		t.Error("an address that is not allowed connected")
	}
	if got := d.instance(i.ID).Access.AllowedCIDRs; len(got) != 1 || got[0] != "192.0.2.1" {
		t.Errorf("the rules shown are %v", got)
	}
	d.trove("instance", "update", i.ID, "--allowed-cidr", "0.0.0.0/0", "--wait")
	if err := reachable(patience); err != nil {
		t.Errorf("allowed again: %v", err)
	}
}

// TestAFullPoolIsASentence fills the space of a small deployment. What does not fit ends in ERROR with the reason, leaves nothing and can be deleted.
func TestAFullPoolIsASentence(t *testing.T) {
	before := hostcheck.Take(t.Context(), t)
	t.Setenv("TROVE_LOCAL_POOL_GIB", "3")
	d, err := newDeployment(filepath.Join(repository, "var", "e2e-pool"))
	if err != nil {
		t.Fatal(err)
	}
	d.t = t
	t.Cleanup(func() { d.destroy(t, before) })
	d.createKept("fits")
	quota := d.trove("quota", "show", "-f", "value")
	big, err := d.client.CreateInstance(t.Context(), wire.InstanceCreate{Name: "big", FlavorRef: "1", Volume: &wire.VolumeCreate{Size: 50}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the create to fail", func() bool { return d.instance(big.ID).Status == "ERROR" })
	fault := d.instance(big.ID).Fault
	if fault == nil || !strings.Contains(fault.Message, "GiB") {
		t.Errorf("the fault is %+v", fault)
	}
	if got := d.trove("quota", "show", "-f", "value"); got != quota {
		t.Errorf("the quota is\n%safter the failed create, and was\n%s", got, quota)
	}
	if _, err := d.tryInput("", "instance", "create", "big-2", "--flavor", "1", "--size", "50", "--wait"); err == nil || !strings.Contains(err.Error(), "GiB") {
		t.Errorf("create --wait: %v", err)
	}
	d.remove(big.ID)
	d.createKept("fits-too")
}

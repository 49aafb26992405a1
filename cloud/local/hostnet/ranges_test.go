package hostnet_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

func TestRangesThatCannotBe(t *testing.T) {
	other := open(t, hostnet.Config{})
	for name, test := range map[string]struct {
		config hostnet.Config
		kind   trove.Kind
		says   string
	}{
		"in use by another":      {hostnet.Config{TenantCIDR: other.TenantSubnet().String()}, trove.KindConflict, "in use on this machine"},
		"part is in use":         {hostnet.Config{ManagementCIDR: netip.PrefixFrom(other.TenantHost(), 24).Masked().String()}, trove.KindConflict, "in use on this machine"},
		"both the same":          {hostnet.Config{ManagementCIDR: "10.191.0.0/24", TenantCIDR: "10.191.0.0/24"}, trove.KindConflict, "this deployment's management network"},
		"no range":               {hostnet.Config{TenantCIDR: "everywhere"}, trove.KindBadRequest, `"everywhere"`},
		"IPv6":                   {hostnet.Config{TenantCIDR: "fd00::/64"}, trove.KindBadRequest, "IPv4"},
		"too small":              {hostnet.Config{TenantCIDR: "10.191.0.0/30"}, trove.KindBadRequest, "/28"},
		"port that cannot exist": {hostnet.Config{ControllerPorts: []int{70000}}, trove.KindBadRequest, "70000"},
	} {
		t.Run(name, func(t *testing.T) {
			test.config.State = t.TempDir()
			t.Cleanup(func() {
				if err := hostnet.Destroy(context.Background(), test.config.State); err != nil {
					t.Error(err)
				}
			})
			_, err := hostnet.Open(t.Context(), test.config)
			if trove.KindOf(err) != test.kind || !strings.Contains(trove.MessageOf(err), test.says) || !trove.IsPermanent(err) {
				t.Errorf("error %v (kind %v), want a permanent one of kind %v with %q", err, trove.KindOf(err), test.kind, test.says)
			}
		})
	}
}

func TestRangesCanChangeOnlyWithoutInstances(t *testing.T) {
	state := t.TempDir()
	n := open(t, hostnet.Config{State: state})
	small := hostnet.Config{State: state, ManagementCIDR: "10.191.16.0/28", TenantCIDR: "10.191.17.0/28", ControllerPorts: []int{controller}}
	p := guest(t, n)
	if _, err := hostnet.Open(t.Context(), small); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("other ranges with an instance: %v, want a conflict", err)
	}
	if err := n.RemoveInstance(t.Context(), p.Instance); err != nil {
		t.Fatal(err)
	}
	n, err := hostnet.Open(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	seen := map[netip.Addr]bool{}
	for range 13 {
		p := guest(t, n)
		if seen[p.Address] || !n.TenantSubnet().Contains(p.Address) || !n.ManagementSubnet().Contains(p.Management) {
			t.Errorf("address %s: given before, or not of %s", p.Address, n.TenantSubnet())
		}
		seen[p.Address] = true
	}
	_, err = n.EnsureInstance(t.Context(), hostnet.Spec{Instance: trove.NewID()})
	if trove.KindOf(err) != trove.KindOverLimit || !trove.IsPermanent(err) {
		t.Errorf("one too many: %v, want over limit", err)
	}
}

func TestWantedAddresses(t *testing.T) {
	n := open(t, hostnet.Config{})
	want := n.TenantHost().Next().Next().Next()
	p := ensure(t, n, hostnet.Spec{Instance: trove.NewID(), Address: want})
	if p.Address != want {
		t.Errorf("address %s, want %s", p.Address, want)
	}
	last := n.TenantSubnet().Addr()
	for range 1<<12 - 1 {
		last = last.Next()
	}
	for name, ip := range map[string]netip.Addr{
		"taken": want, "the host's": n.TenantHost(), "the network's": n.TenantSubnet().Addr(), "broadcast": last,
		"outside": n.ManagementSubnet().Addr().Next().Next().Next(), "IPv6": netip.MustParseAddr("fd00::5"),
	} {
		id := trove.NewID()
		_, err := n.EnsureInstance(t.Context(), hostnet.Spec{Instance: id, Address: ip})
		if trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s address %s: %v, want bad request", name, ip, err)
		}
		if _, err := n.FindInstance(t.Context(), id); !trove.IsNotFound(err) {
			t.Errorf("%s address: FindInstance: %v, want not found", name, err)
		}
	}
}

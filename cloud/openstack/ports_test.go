package openstack_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

// libvirt refuses a hardware address that begins with 0xfe for an interface in a bridge.
func TestOneInstanceInSixtyFourNeverBoots(t *testing.T) {
	b := newBed(t)
	b.id = "0000000e-0000-4000-8000-000000000001" // its first port's address would begin with 0xfe
	if m := b.made(); m.State != cloud.MachineRunning {
		t.Errorf("it is %s: %s", m.State, m.Reason)
	}
	b.removed()
	for range 1000 {
		id := trove.NewID()
		if at := openstack.HardwareAddress(id, 0); strings.HasPrefix(at, "fe:") {
			t.Fatalf("the port of the instance %s has the address %s", id, at)
		}
	}
}

// second makes another group of the instance's name, as a request does that was cut off and made again; it counts from now on.
func (b *bed) second() string {
	return b.c.Add("security-groups", openstacktest.Object{
		"name": "trove-" + b.id, "description": "trove_instance=" + b.id, "project_id": openstacktest.Service, "tags": []any{}, "created_at": "2020-01-01T00:00:00",
		"security_group_rules": []openstacktest.Object{},
	})
}

// databasePort returns what Neutron has of the port on the tenant's network.
func (b *bed) databasePort() openstacktest.Object {
	b.Helper()
	for _, o := range b.c.Objects("ports") {
		if o["name"] == "trove-"+b.id+"-0" {
			return o
		}
	}
	b.Fatal("there is no port")
	return nil
}

func TestNarrowedAccessHasNoEffectWhereTwoGroupsWereMade(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	second := b.second()
	s := b.network()
	s.Access.AllowedCIDRs = []string{"10.9.0.0/16"}
	for range 2 {
		before := b.count(http.MethodPut, "/network/v2.0/ports")
		_, err = b.p.EnsureNetwork(t.Context(), s)
		b.must(err)
		if groups := b.databasePort()["security_groups"].([]any); len(groups) != 1 || groups[0] != second {
			t.Errorf("the port has the groups %v, want %s", groups, second)
		}
		if n := b.count(http.MethodPut, "/network/v2.0/ports") - before; n > 1 {
			t.Errorf("%d changes of ports", n)
		}
	}
	access, _, err := b.p.Rules(t.Context(), b.id)
	if err != nil || len(access.AllowedCIDRs) != 1 || access.AllowedCIDRs[0] != "10.9.0.0/16" {
		t.Errorf("let in are %+v, %v", access, err)
	}
	if n := len(b.c.Objects("security-groups")); n != 2 { // with that of the management network
		t.Errorf("%d security groups, want 2", n)
	}
	before := len(b.c.Requests())
	_, err = b.p.EnsureNetwork(t.Context(), s)
	b.must(err)
	for _, r := range b.c.Requests()[before:] {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s changes what is well", r.Method, r.Path)
		}
	}
	b.removed()
}

func TestAPortWithoutSecurityStopsEachChangeOfAccess(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	b.c.Change("ports", "trove-"+b.id+"-0", func(o openstacktest.Object) { o["port_security_enabled"], o["security_groups"] = false, []any{} })
	_, err = b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
}

func TestACreateWithAnAddressThatIsTakenWaitsInVain(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	s := b.network()
	s.Instance, s.NICs[0].IPAddress = trove.NewID(), "10.1.0.2" // of the other
	if _, err := b.p.EnsureNetwork(t.Context(), s); !trove.IsPermanent(err) || trove.MessageOf(err) != "The address 10.1.0.2 is in use." {
		t.Errorf("got %v", err)
	}
}

// lost is an instance whose port on the tenant's network was deleted by the tenant; the address before its own is free.
func (b *bed) lost() (was openstacktest.Object) {
	b.Helper()
	other := b.network()
	other.Instance = trove.NewID()
	_, err := b.p.EnsureNetwork(b.Context(), other)
	b.must(err)
	b.made()
	b.must(b.p.RemoveNetwork(b.Context(), other.Instance))
	was = b.databasePort()
	b.c.Drop("ports", was["id"].(string))
	return was
}

// addressOf returns that of a port.
func addressOf(port openstacktest.Object) string {
	return port["fixed_ips"].([]any)[0].(map[string]any)["ip_address"].(string)
}

// startedAgain stops and starts the machine, with its network before.
func (b *bed) startedAgain() {
	b.Helper()
	b.must(b.p.StopMachine(b.Context(), b.id))
	_, err := b.p.EnsureNetwork(b.Context(), b.network())
	b.must(err)
	for range 5 {
		m, err := b.p.EnsureMachine(b.Context(), b.machine())
		b.must(err)
		if m.State == cloud.MachineRunning {
			return
		}
	}
	b.Fatal("the machine does not run")
}

func TestAPortThatItsTenantDeletedComesBackAsItWas(t *testing.T) {
	b := newBed(t)
	was := b.lost()
	b.startedAgain()
	is := b.databasePort()
	if is["device_id"] != b.c.Objects("servers")[0]["id"] {
		t.Errorf("the port belongs to %v", is["device_id"])
	}
	if is["mac_address"] != was["mac_address"] || addressOf(is) != addressOf(was) {
		t.Errorf("the guest was told of %v with %s, and the port is %v with %s", was["mac_address"], addressOf(was), is["mac_address"], addressOf(is))
	}
	if want := b.c.Objects("security-groups")[1]["id"]; len(is["security_groups"].([]any)) != 1 || is["security_groups"].([]any)[0] != want {
		t.Errorf("it has the groups %v, want %v", is["security_groups"], want)
	}
	b.removed()
}

func TestARebootAttachesAPortThatWasMadeAgain(t *testing.T) {
	for name, refused := range map[string]bool{"": false, "and Nova does not attach it": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.lost()
			_, err := b.p.EnsureNetwork(t.Context(), b.network())
			b.must(err)
			server := b.c.Objects("servers")[0]["id"].(string)
			if refused {
				b.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: "/compute/v2.1/servers/" + server + "/os-interface", Status: http.StatusInternalServerError})
			}
			before, err := b.p.FindMachine(t.Context(), b.id)
			b.must(err)
			b.must(b.p.RebootMachine(t.Context(), b.id))
			after, err := b.p.FindMachine(t.Context(), b.id)
			b.must(err)
			if after.BootID == before.BootID {
				t.Error("it was not rebooted")
			}
			if has := b.databasePort()["device_id"] == server; has == refused {
				t.Errorf("the server has the port: %t", has)
			}
		})
	}
}

// The tenant may have used the address for something else meanwhile.
func TestAPortWhoseAddressIsTakenGetsAnother(t *testing.T) {
	b := newBed(t)
	was := b.lost()
	other := b.network()
	other.Instance, other.NICs[0].IPAddress = trove.NewID(), addressOf(was)
	_, err := b.p.EnsureNetwork(t.Context(), other)
	b.must(err)
	b.startedAgain()
	if is := b.databasePort(); addressOf(is) == addressOf(was) || is["device_id"] != b.c.Objects("servers")[0]["id"] {
		t.Errorf("the port is %v", is)
	}
}

// A port that was taken over from another Trove has the hardware address that Neutron has chosen.
func TestAPortThatWasTakenOverComesBackWithItsHardwareAddress(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	b.c.Change("ports", "trove-"+b.id+"-0", func(o openstacktest.Object) { o["mac_address"] = "fa:16:3e:12:34:56" })
	b.made()
	b.c.Drop("ports", b.databasePort()["id"].(string))
	b.startedAgain()
	if is := b.databasePort(); is["mac_address"] != "fa:16:3e:12:34:56" {
		t.Errorf("the port has %v", is["mac_address"])
	}
}

func TestAPublicAddressLeadsToThePortThatWasMadeAgain(t *testing.T) {
	b := newBed(t)
	s := b.network()
	s.Access.IsPublic = true
	before, err := b.p.EnsureNetwork(t.Context(), s)
	b.must(err)
	b.c.Drop("ports", b.databasePort()["id"].(string))
	after, err := b.p.EnsureNetwork(t.Context(), s)
	b.must(err)
	if len(after.Addresses) != 2 || after.Addresses[1] != before.Addresses[1] {
		t.Errorf("the addresses were %v and are %v", before.Addresses, after.Addresses)
	}
	if to := b.c.Objects("floatingips")[0]["port_id"]; to != b.databasePort()["id"] {
		t.Errorf("the public address leads to %v", to)
	}
	b.removed()
}

// An instance may have ports in several networks, taken over from another Trove, and any of them may be deleted.
func TestEachOfSeveralPortsComesBackAsItWas(t *testing.T) {
	for name, lost := range map[string][]string{"first": {"0"}, "second": {"1"}, "both": {"0", "1"}} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			s := b.network()
			s.NICs = append(s.NICs, trove.NIC{NetworkID: openstacktest.OtherNet})
			_, err := b.p.EnsureNetwork(t.Context(), s)
			b.must(err)
			for n, mac := range []string{"fa:16:3e:12:34:56", "fa:16:3e:12:34:57"} {
				b.c.Change("ports", fmt.Sprintf("trove-%s-%d", b.id, n), func(o openstacktest.Object) { o["mac_address"] = mac })
			}
			_, err = b.p.EnsureVolume(t.Context(), b.volume(1))
			b.must(err)
			_, err = b.p.EnsureMachine(t.Context(), b.machine())
			b.must(err)
			ports := func() map[string][3]any {
				all := map[string][3]any{}
				for _, o := range b.c.Objects("ports") {
					all[o["name"].(string)] = [3]any{o["mac_address"], addressOf(o), o["network_id"]}
				}
				return all
			}
			was := ports()
			for _, o := range b.c.Objects("ports") {
				if slices.ContainsFunc(lost, func(n string) bool { return o["name"] == "trove-"+b.id+"-"+n }) {
					b.c.Drop("ports", o["id"].(string))
				}
			}
			_, err = b.p.EnsureNetwork(t.Context(), s)
			b.must(err)
			if diff := cmp.Diff(was, ports()); diff != "" {
				t.Errorf("the ports (-were +are):\n%s", diff)
			}
		})
	}
}

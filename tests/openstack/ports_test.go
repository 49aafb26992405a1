package openstack_test

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// portDeleted deletes the port in the tenant's network, as the owner of the network may, and looks whether an operation brings it back: clients inside and outside
// reach the database at the addresses that they know. While the instance is public an administrator deletes it: Neutron fails on a tenant's request for a port with a
// floating address of another project, which that of an instance is.
func (st *story) portDeleted() {
	st.t.Helper()
	st.action("make it public once more", "update", st.name, "--is-public", "--allowed-cidr", "172.24.4.0/24", "--allowed-cidr", "10.1.0.0/24")
	demo, admin, ctx := st.service.client("demo"), st.service.client("admin"), st.t.Context()
	st.portComesBack(as(st.t, "admin"), "stop and start", []string{st.address, st.publicAddress()},
		func() error { return demo.StopInstance(ctx, st.id) }, func() error { return demo.StartInstance(ctx, st.id) })
	st.action("make it private once more", "update", st.name, "--is-private", "--allowed-cidr", "10.1.0.0/24")
	st.portComesBack(st.demo, "reboot", []string{st.address}, func() error { return admin.RebootInstance(ctx, st.id) })
	st.portComesBack(st.demo, "rebuild", []string{st.address}, func() error { return admin.RebuildInstance(ctx, st.id, st.servers()[0].Image.ID) })
	st.deletePort(st.demo) // the upgrade that follows brings it back
}

// portComesBack carries out operations on an instance whose port somebody has deleted. The database answers at the addresses afterwards, the first of which is inside.
func (st *story) portComesBack(deletes user, way string, addresses []string, asks ...func() error) {
	st.t.Helper()
	st.deletePort(deletes)
	begin := time.Now()
	for _, ask := range asks {
		if err := ask(); err != nil {
			st.t.Fatalf("%s: %v", way, err)
		}
		st.finish("")
	}
	st.table.row("port deleted by somebody, "+way, time.Since(begin), "")
	for n, address := range addresses {
		from := st.machine
		if n > 0 {
			from = openstack.Here()
		}
		eventually(st.t, time.Minute, "a client to reach "+address+" after "+way, func() bool { return from.Reaches(st.t.Context(), net.JoinHostPort(address, st.engine.port)) })
	}
	st.query(st.engine.read, "kept")
}

func (st *story) deletePort(u user) {
	st.t.Helper()
	found := u.table(st.t, "port", "list", "--fixed-ip", "ip-address="+st.address)
	if len(found) != 1 {
		st.t.Fatalf("ports with the address %s: %v", st.address, found)
	}
	u.run(st.t, "port", "delete", fmt.Sprint(found[0]["ID"]))
	eventually(st.t, time.Minute, "Nova to take the interface away", func() bool {
		left := u.run(st.t, "port", "list", "--fixed-ip", "ip-address="+st.address, "-f", "value")
		return strings.TrimSpace(left) == "" && !st.machine.Reaches(st.t.Context(), net.JoinHostPort(st.address, st.engine.port))
	})
}

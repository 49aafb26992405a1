package openstack_test

import (
	"net"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// public gives the database an address of the external network for the clients there alone, and takes it away again. It has the rules of the tenant's own network then.
func (st *story) public() {
	st.t.Helper()
	st.action("make it public, to clients of the external network alone", "update", st.name, "--is-public", "--allowed-cidr", "172.24.4.0/24")
	out := *st
	out.machine, out.address = openstack.Here(), st.publicAddress()
	if out.address == "" {
		st.t.Fatal("the instance is public and has no public address")
	}
	var said string
	defer func() {
		if st.t.Failed() {
			st.t.Logf("the client said last: %s", said)
		}
	}()
	eventually(st.t, 2*time.Minute, "a client outside to read over TLS, with a certificate that names the floating address", func() (ok bool) {
		var err error
		said, err = out.says(st.engine.read)
		return err == nil && strings.Contains(said, "kept")
	})
	inside := net.JoinHostPort(st.address, st.engine.port)
	eventually(st.t, time.Minute, "a client of the tenant's network to be shut out", func() bool { return !st.machine.Reaches(st.t.Context(), inside) })

	st.action("make it private again", "update", st.name, "--is-private", "--allowed-cidr", "10.1.0.0/24")
	if a := st.publicAddress(); a != "" {
		st.t.Errorf("the instance is private and has the public address %s", a)
	}
	if out.machine.Reaches(st.t.Context(), net.JoinHostPort(out.address, st.engine.port)) {
		st.t.Error("the floating address still leads somewhere")
	}
	eventually(st.t, time.Minute, "a client of the tenant's network to be let in", func() bool { return st.machine.Reaches(st.t.Context(), inside) })
	eventually(st.t, 2*time.Minute, "the certificate to be renewed", func() bool {
		var err error
		said, err = st.says(st.engine.read)
		return err == nil && strings.Contains(said, "kept")
	})
}

func (st *story) publicAddress() string {
	st.t.Helper()
	i, err := st.service.client("demo").Instance(st.t.Context(), st.id)
	if err != nil {
		st.t.Fatal(err)
	}
	for _, a := range i.Addresses {
		if a.Type == "public" {
			return a.Address
		}
	}
	return ""
}

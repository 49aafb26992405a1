package machine

import (
	"fmt"
	"net/netip"
	"strings"
)

// The rules stand beside those of the cloud's security group, which no one in the guest can change: they keep the database's account from a network that
// is not its own, and cover a cloud whose group was made too wide. Where the controllers are is not in them, because their addresses may change while the
// guest is away from the bus, and a guest that keeps them out can never hear of it.
//
// The cloud's metadata address would tell every account of the guest what the config drive tells root only.
const refuseMetadata = `		ip daddr 169.254.169.254 reject with icmpx admin-prohibited
		ip6 daddr fe80::a9fe:a9fe reject with icmpx admin-prohibited
`

// rulesApart are for the database's network, where the management interface is not.
const rulesApart = `table inet trove
delete table inet trove
table inet trove {
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
	chain output {
		type filter hook output priority filter; policy accept;
` + refuseMetadata + `	}
}
`

// rulesManagement are for the management interface in its own namespace, where only the agent's connections to controllers are: no program is started in it.
const rulesManagement = `table inet trove
delete table inet trove
table inet trove {
	chain input {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
	chain output {
		type filter hook output priority filter; policy drop;
		oifname "lo" accept
` + refuseMetadata + `		meta skuid != 0 reject with icmpx admin-prohibited
		meta l4proto tcp accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
	}
}
`

// rulesTogether are for a machine whose management interface is beside the others. Every account may open connections there; nothing comes in that was not
// asked for.
const rulesTogether = `table inet trove
delete table inet trove
table inet trove {
	chain early {
		type filter hook prerouting priority raw; policy accept;
		iifname != "%[1]s" notrack
	}
	chain early_out {
		type filter hook output priority raw; policy accept;
		oifname != "%[1]s" notrack
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "lo" accept
		iifname "%[1]s" jump from_management
%[2]s	}
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
	chain from_management {
		ct state established,related accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		drop
	}
	chain output {
		type filter hook output priority filter; policy accept;
` + refuseMetadata + `		oifname "%[1]s" jump to_management
	}
	chain to_management {
		meta l4proto tcp accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		drop
	}
}
`

// together fills in rulesTogether, for the one management interface.
func (m *machine) together() string {
	l := m.mgmt[0]
	var b strings.Builder
	for _, a := range l.Addresses { // the kernel would take them on any interface
		p := netip.MustParsePrefix(a)
		family := "ip"
		if p.Addr().Is6() {
			family = "ip6"
		}
		fmt.Fprintf(&b, "\t\t%s daddr %s drop\n", family, p.Addr())
	}
	return fmt.Sprintf(rulesTogether, l.name, b.String())
}

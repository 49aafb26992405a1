package machine

import (
	"fmt"
	"net/netip"
	"strings"
)

// The rules on the management interface stand beside those of the cloud's security group, which no one in the guest can change: they keep the database's
// account from a network that is not its own, and cover a cloud whose group was made too wide. Where the controllers are is not in them, because their
// addresses may change while the guest is away from the bus, and a guest that keeps them out can never hear of it. Only the agent, as root, may open
// connections; nothing comes in that was not asked for.
//
// The cloud's metadata address would tell every account of the guest what the config drive tells root only.
const rulesHead = `table inet trove
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
`

const rulesTail = `	}
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
		ip daddr 169.254.169.254 reject with icmpx admin-prohibited
		ip6 daddr fe80::a9fe:a9fe reject with icmpx admin-prohibited
		oifname "%[1]s" jump to_management
	}
	chain to_management {
%[2]s		meta l4proto tcp accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		drop
	}
}
`

// rules are nft's, for the one management interface.
func (m *machine) rules() string {
	l := m.mgmt[0]
	var b strings.Builder
	fmt.Fprintf(&b, rulesHead, l.name)
	for _, a := range l.Addresses { // the kernel would take them on any interface
		p := netip.MustParsePrefix(a)
		family := "ip"
		if p.Addr().Is6() {
			family = "ip6"
		}
		fmt.Fprintf(&b, "\t\t%s daddr %s drop\n", family, p.Addr())
	}
	isolated := ""
	if m.data.IsolateManagement {
		isolated = "\t\tmeta skuid != 0 reject with icmpx admin-prohibited\n"
	}
	fmt.Fprintf(&b, rulesTail, l.name, isolated)
	return b.String()
}

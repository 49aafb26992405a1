package hostnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// ranges is the content of network.json.
type ranges struct {
	Management netip.Prefix `json:"management"`
	Tenant     netip.Prefix `json:"tenant"`
}

// settle decides on the ranges, makes the bridges with them, and writes them down. The caller has the deployment's lock.
func (n *Net) settle(ctx context.Context, c Config) error {
	unlock, err := lockFile(ctx, rangesLock)
	if err != nil {
		return fmt.Errorf("choose ranges: %w", err)
	}
	defer unlock()
	had, err := readRanges(n.d.rangesFile())
	if err != nil {
		return err
	}
	taken, err := n.d.taken()
	if err != nil {
		return fmt.Errorf("choose ranges: %w", err)
	}
	var now ranges
	if now.Management, err = decide("management", c.ManagementCIDR, had.Management, taken, n.d.hash); err != nil {
		return err
	}
	taken = append(taken, use{now.Management, "this deployment's management network"})
	if now.Tenant, err = decide("tenant", c.TenantCIDR, had.Tenant, taken, n.d.hash); err != nil {
		return err
	}
	if had != now && had.Management.IsValid() {
		if err := n.move(had, now); err != nil {
			return err
		}
	}
	n.management.prefix, n.tenant.prefix = now.Management, now.Tenant
	if had != now {
		data, err := json.Marshal(now)
		if err != nil {
			return fmt.Errorf("write down the ranges: %w", err)
		}
		if err := atomicfile.Write(n.d.rangesFile(), append(data, '\n'), 0o600); err != nil {
			return fmt.Errorf("write down the ranges: %w", err)
		}
	}
	return n.ensureBridges()
}

// move prepares for other ranges, which is possible only while no instance has addresses.
func (n *Net) move(had, now ranges) error {
	all, err := n.d.readRecords()
	if err != nil {
		return err
	}
	if len(all) > 0 {
		return trove.Permanent(trove.Errorf(trove.KindConflict,
			"The networks have the ranges %s and %s and %d instances; the ranges %s and %s are possible only without instances.",
			had.Management, had.Tenant, len(all), now.Management, now.Tenant))
	}
	for _, bridge := range []string{n.management.bridge, n.tenant.bridge} {
		if err := removeLink(bridge); err != nil {
			return err
		}
	}
	return nil
}

func readRanges(path string) (ranges, error) {
	var r ranges
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read the ranges: %w", err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read the ranges of %s: %w", path, err)
	}
	return r, nil
}

// decide returns the range for one network: the configured one, else the one that it has, else a free one.
func decide(name, configured string, had netip.Prefix, taken []use, seed string) (netip.Prefix, error) {
	want := had
	if configured != "" {
		p, err := netip.ParsePrefix(configured)
		if err != nil || !p.Addr().Is4() || p.Bits() < 16 || p.Bits() > 28 {
			return netip.Prefix{}, bad("%q cannot be the range of the %s network: an IPv4 range from /16 to /28 is needed.", configured, name)
		}
		want = p.Masked()
	}
	if !want.IsValid() {
		return choose(name, taken, seed)
	}
	if u, clash := firstClash(want, taken); clash {
		return netip.Prefix{}, trove.Permanent(trove.Errorf(trove.KindConflict,
			"The range %s of the %s network is in use on this machine (%s). Give the network another range or remove what uses this one.",
			want, name, u.by))
	}
	return want, nil
}

// pools are where free ranges are looked for.
var pools = []netip.Prefix{
	netip.MustParsePrefix("10.192.0.0/10"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"), // for benchmarks, not routed; the last resort
}

// blockBits is the size of the ranges that are chosen: 4093 instances.
const blockBits = 20

// choose returns a free range. Where it begins to look depends on the seed, so that deployments on machines that meet later rarely clash.
func choose(name string, taken []use, seed string) (netip.Prefix, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed))
	for _, pool := range pools {
		blocks := uint32(1) << (blockBits - pool.Bits())
		for i := range blocks {
			p := netip.PrefixFrom(plus(pool.Addr(), (h.Sum32()+i)%blocks<<(32-blockBits)), blockBits)
			if _, clash := firstClash(p, taken); !clash {
				return p, nil
			}
		}
	}
	var tried []string
	for _, p := range pools {
		tried = append(tried, p.String())
	}
	return netip.Prefix{}, trove.Permanent(trove.Errorf(trove.KindConflict,
		"No /%d of %s is free on this machine for the %s network. Give the network a range.", blockBits, strings.Join(tried, ", "), name))
}

// use is a range of addresses with what uses it.
type use struct {
	prefix netip.Prefix
	by     string
}

func firstClash(p netip.Prefix, taken []use) (use, bool) {
	for _, u := range taken {
		if u.prefix.Overlaps(p) {
			return u, true
		}
	}
	return use{}, false
}

// taken returns what addresses and routes of this machine use, without the deployment's own bridges.
func (d deployment) taken() ([]use, error) {
	links, err := listLinks()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	own := func(index int) bool { return names[index] == d.bridge("m") || names[index] == d.bridge("t") }
	addresses, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var all []use
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && !own(a.LinkIndex) {
			bits, _ := a.Mask.Size()
			p := netip.PrefixFrom(ip, bits)
			all = append(all, use{p.Masked(), fmt.Sprintf("address %s of %s", p, names[a.LinkIndex])})
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || own(r.LinkIndex) {
			continue
		}
		bits, _ := r.Dst.Mask.Size()
		// A default route, also one in halves as tunnels make it, leads to everywhere and uses nothing.
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok && bits > 1 {
			p := netip.PrefixFrom(ip, bits)
			all = append(all, use{p, fmt.Sprintf("route to %s by %s", p, names[r.LinkIndex])})
		}
	}
	return all, nil
}

// plus returns the IPv4 address n after ip.
func plus(ip netip.Addr, n uint32) netip.Addr {
	b := ip.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += n
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// minus returns by how many addresses a is after b.
func minus(a, b netip.Addr) int {
	x, y := a.As4(), b.As4()
	n := 0
	for i := range x {
		n = n<<8 + int(x[i]) - int(y[i])
	}
	return n
}

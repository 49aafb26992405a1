package bootstrap

import (
	"fmt"
	"net/netip"
	"slices"

	trove "github.com/trove-dbaas/trove"
)

// Size is what the management network has to hold.
type Size struct {
	Instances   int
	Replicas    int // of each instance
	Controllers int
	DHCP        int // ports of Neutron's DHCP agents; 0: there is no DHCP
}

// Of every tenth guest a second port may be there for a while: the one that takes its place is made before the old one is gone.
const (
	headRoomShare = 10
	headRoomLeast = 8
)

// routerAddresses are kept for a router, so that one can be added later: the first address of the subnet.
const routerAddresses = 1

// Guests is how many machines there may be.
func (s Size) Guests() int { return s.Instances * (1 + s.Replicas) }

// HeadRoom is how many ports there may be besides, of machines that are deleted or replaced.
func (s Size) HeadRoom() int { return max(headRoomLeast, (s.Guests()+headRoomShare-1)/headRoomShare) }

// Reserved is how many addresses at the beginning Neutron does not give out by itself: for a router, the controllers, and as many that take their place.
func (s Size) Reserved() int { return routerAddresses + 2*s.Controllers }

// Pool is how many addresses Neutron has to give out.
func (s Size) Pool() int { return s.Guests() + s.HeadRoom() + s.DHCP }

// Addresses is how many addresses the subnet needs, its own and the broadcast address among them.
func (s Size) Addresses() int { return 2 + s.Reserved() + s.Pool() }

// Bits is the length of the longest prefix that has so many addresses.
func (s Size) Bits() int {
	bits := 32
	for 1<<(32-bits) < s.Addresses() {
		bits--
	}
	return bits
}

// Lines is the arithmetic in words.
func (s Size) Lines() []string {
	lines := []string{
		fmt.Sprintf("%6d  %s with %s each, one port for each of them", s.Guests(), some(s.Instances, "instance"), some(s.Replicas, "replica")),
		fmt.Sprintf("%6d  head-room, a tenth and at least %d: a guest that takes another's place is there before that one is gone", s.HeadRoom(), headRoomLeast),
	}
	if s.DHCP > 0 {
		lines = append(lines, fmt.Sprintf("%6d  ports of DHCP agents", s.DHCP))
	}
	return append(lines,
		fmt.Sprintf("%6d  %s, and as many that take their place", 2*s.Controllers, some(s.Controllers, "controller")),
		fmt.Sprintf("%6d  a router, if one is added", routerAddresses),
		fmt.Sprintf("%6d  the addresses of the network itself and for broadcasts", 2),
		fmt.Sprintf("%6d  together: a /%d has %d", s.Addresses(), s.Bits(), 1<<(32-s.Bits())))
}

// some says how many there are of something.
func some(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func (s Size) check() error {
	if s.Instances < 1 || s.Replicas < 0 || s.Controllers < 1 || s.DHCP < 0 || s.Instances > 1<<20 || s.Replicas > 100 || s.Controllers > 100 || s.DHCP > 100 {
		return trove.Errorf(trove.KindBadRequest,
			"There has to be at least one instance and one controller; at most %d instances, 100 replicas of each, 100 controllers and 100 DHCP ports.", 1<<20)
	}
	return nil
}

// freeRanges are where a range is looked for when none is named.
var freeRanges = netip.MustParsePrefix("10.224.0.0/11")

// Pick returns the first range with so many bits that overlaps with none of taken.
func Pick(bits int, taken []netip.Prefix) (netip.Prefix, error) {
	if bits < freeRanges.Bits() {
		return netip.Prefix{}, trove.Errorf(trove.KindBadRequest, "No range is picked for a /%d: name one with --cidr.", bits)
	}
	step := uint64(1) << (32 - bits)
	for n := range uint64(1) << (bits - freeRanges.Bits()) {
		p := netip.PrefixFrom(plus(freeRanges.Addr(), n*step), bits)
		if !overlapsAny(p, taken) {
			return p, nil
		}
	}
	return netip.Prefix{}, trove.Errorf(trove.KindConflict, "No /%d of %s is free, as far as this host can see: name a range with --cidr.", bits, freeRanges)
}

func overlapsAny(p netip.Prefix, taken []netip.Prefix) bool {
	return slices.ContainsFunc(taken, p.Overlaps)
}

func plus(a netip.Addr, n uint64) netip.Addr {
	b := a.As4()
	v := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	v += n
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// count is how many addresses a pool has.
func (p Pool) count() int {
	a, b := p.Start.As4(), p.End.As4()
	number := func(b [4]byte) int { return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3]) }
	return max(0, number(b)-number(a)+1)
}

// Layout is how the addresses of a range are used.
type Layout struct {
	CIDR        netip.Prefix
	Controllers []netip.Addr // addresses that are kept for controllers
	Pool        Pool
}

// LayOut divides a range. It is refused with the numbers where the range is too small.
func LayOut(cidr netip.Prefix, s Size) (Layout, error) {
	if !cidr.IsValid() || !cidr.Addr().Is4() || cidr != cidr.Masked() {
		return Layout{}, trove.Errorf(trove.KindBadRequest, "%s is not a range of IPv4 addresses such as 10.20.0.0/22.", cidr)
	}
	has := 1 << (32 - cidr.Bits())
	if has < s.Addresses() {
		return Layout{}, trove.Errorf(trove.KindBadRequest,
			"%s has %d addresses and %d are needed: %d guests, %d of head-room, %d for controllers and a router, %d for DHCP, 2 of the range itself. Take a /%d, or fewer instances.",
			cidr, has, s.Addresses(), s.Guests(), s.HeadRoom(), s.Reserved(), s.DHCP, s.Bits())
	}
	l := Layout{CIDR: cidr}
	for n := range 2 * s.Controllers {
		l.Controllers = append(l.Controllers, plus(cidr.Addr(), uint64(1+routerAddresses+n)))
	}
	l.Pool = Pool{Start: plus(cidr.Addr(), uint64(1+s.Reserved())), End: plus(cidr.Addr(), uint64(has-2))}
	return l, nil
}

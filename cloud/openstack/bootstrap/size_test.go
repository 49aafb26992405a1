package bootstrap_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
)

func TestSubnetIsAsLargeAsTheNumbersSay(t *testing.T) {
	for _, c := range []struct {
		size  bootstrap.Size
		total int
		bits  int
	}{
		{bootstrap.Size{Instances: 1, Controllers: 1}, 2 + 1 + 2 + 1 + 8, 28},
		{bootstrap.Size{Instances: 2, Controllers: 1}, 15, 28},
		{bootstrap.Size{Instances: 3, Controllers: 1}, 16, 28}, // to the last address
		{bootstrap.Size{Instances: 4, Controllers: 1}, 17, 27},
		{bootstrap.Size{Instances: 100, Replicas: 1, Controllers: 3}, 2 + 1 + 6 + 200 + 20, 24},
		{bootstrap.Size{Instances: 100, Replicas: 1, Controllers: 3, DHCP: 2}, 231, 24},
		{bootstrap.Size{Instances: 1000, Replicas: 2, Controllers: 3}, 2 + 1 + 6 + 3000 + 300, 20},
		{bootstrap.Size{Instances: 81, Controllers: 3}, 2 + 1 + 6 + 81 + 9, 25},
	} {
		if got := c.size.Addresses(); got != c.total || c.size.Bits() != c.bits {
			t.Errorf("%+v: %d addresses in a /%d, want %d in a /%d", c.size, got, c.size.Bits(), c.total, c.bits)
		}
		l, err := bootstrap.LayOut(netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), c.bits), c.size)
		if err != nil {
			t.Errorf("%+v does not fit in its own /%d: %v", c.size, c.bits, err)
			continue
		}
		if l.Pool.Start.Compare(l.Controllers[len(l.Controllers)-1]) <= 0 || !l.CIDR.Contains(l.Pool.End) || l.CIDR.Contains(l.Pool.End.Next().Next()) {
			t.Errorf("%+v: %+v", c.size, l)
		}
		sum := strings.Join(c.size.Lines(), "\n")
		if !strings.Contains(sum, "together") {
			t.Errorf("the arithmetic has no sum:\n%s", sum)
		}
	}
}

func TestRangeThatIsTooSmallIsRefusedWithTheNumbers(t *testing.T) {
	_, err := bootstrap.LayOut(netip.MustParsePrefix("10.1.0.0/26"), bootstrap.Size{Instances: 50, Controllers: 3})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{"64 addresses", "67 are needed", "50 guests", "8 of head-room", "/25"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	for _, cidr := range []string{"10.1.0.1/24", "2001:db8::/64"} {
		if _, err := bootstrap.LayOut(netip.MustParsePrefix(cidr), bootstrap.Size{Instances: 1, Controllers: 1}); err == nil {
			t.Errorf("%s was taken", cidr)
		}
	}
}

func TestFreeRangeOverlapsWithNothingThatTheHostReaches(t *testing.T) {
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, s := range all {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, c := range []struct {
		bits  int
		taken []netip.Prefix
		want  string
	}{
		{24, nil, "10.224.0.0/24"},
		{24, prefixes("10.224.0.0/24", "10.224.1.77/32"), "10.224.2.0/24"},
		{22, prefixes("10.224.3.0/24"), "10.224.4.0/22"},
		{12, prefixes("10.224.0.0/16"), "10.240.0.0/12"},
	} {
		if got, err := bootstrap.Pick(c.bits, c.taken); err != nil || got.String() != c.want {
			t.Errorf("/%d beside %v: %v %v, want %s", c.bits, c.taken, got, err, c.want)
		}
	}
	if p, err := bootstrap.Pick(24, prefixes("10.0.0.0/8")); err == nil {
		t.Errorf("%s was picked though all is taken", p)
	}
}

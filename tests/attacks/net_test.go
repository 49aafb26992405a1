package attacks_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// withBridgeFilter runs an attack with the inet filters called for bridged frames and without: nothing may depend on it.
func withBridgeFilter(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	const path = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	before, err := os.ReadFile(path)
	if err != nil {
		t.Run("without the switch", run)
		return
	}
	t.Cleanup(func() { _ = os.WriteFile(path, before, 0) })
	for _, value := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+value, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(value), 0); err != nil {
				t.Fatal(err)
			}
			run(t)
		})
	}
}

// port is an interface of a guest.
type port struct {
	name      string
	mac       net.HardwareAddr
	ip4       netip.Addr
	ip6       netip.Addr // invalid: none
	linkLocal netip.Addr // what the kernel would make of the MAC
}

// ports returns the two interfaces of a guest.
func (s *site) ports(instance string) map[string]port {
	s.T.Helper()
	all := map[string]port{}
	inNetwork(s.T, s.netns(instance), func() error {
		for _, name := range []string{"mgmt0", "eth0"} {
			link, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			addresses, err := link.Addrs()
			if err != nil {
				return err
			}
			p := port{name: name, mac: link.HardwareAddr, linkLocal: linkLocal(link.HardwareAddr)}
			for _, a := range addresses {
				ip := netip.MustParsePrefix(a.String()).Addr()
				switch {
				case ip.Is4():
					p.ip4 = ip
				case !ip.IsLinkLocalUnicast():
					p.ip6 = ip
				}
			}
			all[name] = p
		}
		return nil
	})
	return all
}

func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func (s *site) netns(instance string) string { return filepath.Join(s.runDir(), "netns", instance) }

// bridge returns the name and the IPv4 address of a bridge of the deployment: "m" or "t".
func (s *site) bridge(letter string) (string, netip.Addr) {
	s.T.Helper()
	name := "tv" + strings.TrimPrefix(s.runDir(), "/run/trove-") + letter
	link, err := net.InterfaceByName(name)
	if err != nil {
		s.T.Fatal(err)
	}
	addresses, err := link.Addrs()
	if err != nil {
		s.T.Fatal(err)
	}
	for _, a := range addresses {
		if ip := netip.MustParsePrefix(a.String()).Addr(); ip.Is4() {
			return name, ip
		}
	}
	s.T.Fatalf("%s has no address", name)
	return "", netip.Addr{}
}

// busPort is the address that guests reach.
func (s *site) busPort() string {
	_, host := s.bridge("m")
	return netip.AddrPortFrom(host, 4222).String()
}

func TestReachANeighbourOverIPv4(t *testing.T) {
	s := theSite(t)
	neighbour := s.ports(s.neighbour.ID)
	var addresses, pings []string
	for _, p := range neighbour {
		pings = append(pings, p.ip4.String())
		for _, n := range []int{22, 3306, 4222, 4223, 4224, 33060} {
			addresses = append(addresses, netip.AddrPortFrom(p.ip4, uint16(n)).String())
		}
	}
	withBridgeFilter(t, func(t *testing.T) {
		a := begin(t)
		a.inside("net-dial", map[string]string{
			"own": a.busPort(), "addresses": strings.Join(addresses, " "), "ping": strings.Join(pings, " "),
			"udp": neighbour["eth0"].ip4.String() + ":3306 " + neighbour["mgmt0"].ip4.String() + ":53",
		})
		a.dropped("refused")
	})
	a := begin(t)
	a.inside("net-dial", map[string]string{"own": a.busPort(), "addresses": addresses[0]})
	a.counted(frames("refused"), 1) // the service looks every 10 s
	a.logged("frames of a guest were dropped", a.guest.ID)
}

func frames(reason string) string {
	return metric("trove_hostnet_dropped_frames_total", "reason", reason)
}

// filtered is how many frames of guests the packet filter has dropped for a reason.
func (s *site) filtered(reason string) (n uint64) {
	s.T.Helper()
	out, err := exec.Command("nft", "list", "counters", "table", "bridge", "trove_"+strings.TrimPrefix(s.runDir(), "/run/trove-")).CombinedOutput()
	if err != nil {
		s.T.Fatalf("%v: %s", err, out)
	}
	for _, m := range regexp.MustCompile("counter "+reason+`-\S+ \{\s*packets (\d+)`).FindAllStringSubmatch(string(out), -1) {
		packets, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			s.T.Fatal(err)
		}
		n += packets
	}
	return n
}

// dropped checks that the packet filter counted something since the attack began. The service shows it with its next look.
func (a *attack) dropped(reason string) {
	a.t.Helper()
	if now := a.filtered(reason); now <= a.frames[reason] {
		a.t.Errorf("the packet filter counted no frames as %s: %d before, %d after", reason, a.frames[reason], now)
	}
}

func TestReachANeighbourOverIPv6(t *testing.T) {
	s := theSite(t)
	var addresses, pings []string
	for _, p := range s.ports(s.neighbour.ID) {
		addresses = append(addresses, net.JoinHostPort(p.linkLocal.String()+"%"+p.name, "3306"), net.JoinHostPort(p.linkLocal.String()+"%"+p.name, "4222"))
		if p.ip6.IsValid() {
			addresses = append(addresses, netip.AddrPortFrom(p.ip6, 3306).String())
			pings = append(pings, p.ip6.String())
		}
	}
	withBridgeFilter(t, func(t *testing.T) {
		a := begin(t)
		a.inside("net-dial", map[string]string{
			"own": a.busPort(), "addresses": strings.Join(addresses, " "), "ping": strings.Join(pings, " "), "udp": "[ff02::1%eth0]:5353 [ff02::1%mgmt0]:5353",
		})
		a.dropped("refused")
	})
}

// The host listens on all its addresses: guests must reach none but the controllers' ports.
func TestReachOtherPortsOfTheHost(t *testing.T) {
	s := theSite(t)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, everywhere, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, api, err := net.SplitHostPort(s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	_, management := s.bridge("m")
	_, tenant := s.bridge("t")
	hosts = append(hosts, management.String(), tenant.String())
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip := netip.MustParsePrefix(a.String()).Addr(); ip.IsGlobalUnicast() && len(hosts) < 12 {
			hosts = append(hosts, ip.String())
		}
	}
	var addresses []string
	for _, h := range hosts {
		if c, err := net.Dial("tcp", net.JoinHostPort(h, everywhere)); err != nil { // the host itself can
			t.Fatal(err)
		} else if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{everywhere, api, "22", "111", "8779"} {
			addresses = append(addresses, net.JoinHostPort(h, p))
		}
	}
	withBridgeFilter(t, func(t *testing.T) {
		a := begin(t)
		a.inside("net-dial", map[string]string{
			"own": a.busPort(), "addresses": strings.Join(addresses, " "), "ping": management.String() + " " + tenant.String(),
			"udp": net.JoinHostPort(management.String(), "53") + " " + net.JoinHostPort(tenant.String(), "67"),
		})
		a.dropped("refused")
	})
}

func TestReachMetadataAndTheAPI(t *testing.T) {
	a := begin(t)
	_, management := a.bridge("m")
	_, tenant := a.bridge("t")
	_, api, err := net.SplitHostPort(a.Listen)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, h := range []string{"169.254.169.254", "fd00:ec2::254", "192.0.2.1", "2001:db8::1", management.String(), tenant.String(), "224.0.0.1", "255.255.255.255"} {
		for _, p := range []string{"80", "443", "5000", "8774", "8775", "35357", api} {
			addresses = append(addresses, net.JoinHostPort(h, p))
		}
	}
	a.inside("net-dial", map[string]string{"own": a.busPort(), "addresses": strings.Join(addresses, " ")})
	a.dropped("refused")
	// Its own loopback is another one than the host's.
	c, err := net.Dial("tcp", a.Listen)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	var answered []string
	inNetwork(t, a.netns(a.guest.ID), func() error {
		if c, err := net.Dial("tcp", a.Listen); err == nil {
			answered = append(answered, a.Listen)
			return c.Close()
		}
		return nil
	})
	if len(answered) > 0 {
		t.Errorf("the API answers in the guest's network: %v", answered)
	}
}

func TestOpenConnectionsAsFastAsPossible(t *testing.T) {
	a := begin(t)
	guest := a.fresh("hurries")
	a.insideOf(guest, "net-connections", a.to())
	a.dropped("connections")
	// Another guest still comes in.
	a.fresh("comes-in")
}

func TestSpoofARP(t *testing.T)             { sendFrames(t, arpFrames) }
func TestSpoofMACAndAddress(t *testing.T)   { sendFrames(t, spoofedFrames) }
func TestSendVLANTags(t *testing.T)         { sendFrames(t, taggedFrames) }
func TestSendIPv6OnTheWire(t *testing.T)    { sendFrames(t, ipv6Frames) }
func TestSendToAllOnTheWire(t *testing.T)   { sendFrames(t, broadcastFrames) }
func TestSendToANeighboursMAC(t *testing.T) { sendFrames(t, directFrames) }

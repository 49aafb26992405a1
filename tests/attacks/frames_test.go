package attacks_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The frames are sent by somebody stronger than a guest: root of the host, in the guest's network namespace, with raw sockets. A guest gets none (see
// TestOpenSocketsOfOtherFamilies); if it ever had one, the bridge would have to hold, and here it has to.

// inNetwork runs f on a thread of its own in a network namespace.
func inNetwork(t testing.TB, path string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done)      // also when f ends the test, which ends this goroutine
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		ns, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func toNetwork(n uint16) uint16 { return n<<8 | n>>8 }

// cable is a raw socket on an interface.
type cable struct {
	fd    int
	index int
}

func openCable(t testing.TB, name string) cable {
	t.Helper()
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(toNetwork(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: toNetwork(unix.ETH_P_ALL), Ifindex: link.Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return cable{fd, link.Index}
}

func (w cable) send(t testing.TB, frame []byte) {
	t.Helper()
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index, Halen: 6}); err != nil {
		t.Fatal(err)
	}
}

// listener collects the frames of a wire that bear a mark, until it is stopped.
type listener struct {
	mu   sync.Mutex
	seen []string
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

func (l *listener) listen(w cable, where string, mark []byte) {
	l.done.Go(func() {
		buf := make([]byte, 4096)
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			n, from, err := unix.Recvfrom(w.fd, buf, 0)
			if err != nil {
				continue
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if i := bytes.Index(buf[:n], mark); i >= 0 {
				name, _, _ := bytes.Cut(buf[i:n], []byte{0})
				l.mu.Lock()
				l.seen = append(l.seen, where+" "+string(name))
				l.mu.Unlock()
			}
		}
	})
}

// end stops listening; it may be called twice.
func (l *listener) end() {
	l.once.Do(func() { close(l.stop) })
	l.done.Wait()
}

func (l *listener) has(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.seen, what)
}

// scene is who is on a wire.
type scene struct {
	own, neighbour port
	hostMAC        net.HardwareAddr
	host           netip.Addr
	mark           func(name string) []byte
}

// named is a frame and what it is called.
type named struct {
	name  string
	frame []byte
}

// sendFrames sends frames on both interfaces of the guest, and a good one as a control, and looks what comes to the neighbour and to the host.
func sendFrames(t *testing.T, frames func(scene) []named) {
	t.Helper()
	withBridgeFilter(t, func(t *testing.T) {
		a := begin(t)
		own, neighbour := a.ports(a.guest.ID), a.ports(a.neighbour.ID)
		tag := fmt.Sprintf("attack-%x-", time.Now().UnixNano())
		l := &listener{stop: make(chan struct{})}
		t.Cleanup(l.end)
		out := map[string]cable{}
		for _, name := range []string{"mgmt0", "eth0"} {
			inNetwork(t, a.netns(a.neighbour.ID), func() error {
				l.listen(openCable(t, name), "neighbour", []byte(tag))
				return nil
			})
			inNetwork(t, a.netns(a.guest.ID), func() error {
				out[name] = openCable(t, name)
				return nil
			})
		}
		sent := 0
		for letter, name := range map[string]string{"m": "mgmt0", "t": "eth0"} {
			bridge, host := a.bridge(letter)
			link, err := net.InterfaceByName(bridge)
			if err != nil {
				t.Fatal(err)
			}
			l.listen(openCable(t, bridge), "host", []byte(tag))
			s := scene{own: own[name], neighbour: neighbour[name], hostMAC: link.HardwareAddr, host: host}
			s.mark = func(n string) []byte { return append([]byte(tag+name+"-"+n), 0) }
			for _, f := range frames(s) {
				for range 3 {
					out[name].send(t, f.frame)
				}
				sent++
			}
			control := arpFrame(s.own.mac, s.hostMAC, 1, s.own.mac, s.own.ip4, nil, s.host, s.mark("control"))
			want := "host " + tag + name + "-control"
			for end := time.Now().Add(10 * time.Second); !l.has(want) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				out[name].send(t, control)
			}
			if !l.has(want) {
				t.Errorf("the control frame did not come to the host on %s: the others prove nothing", name)
			}
		}
		a.dropped("refused")
		l.end()
		if sent < 2 {
			t.Errorf("%d frames were sent", sent)
		}
		reported := map[string]bool{}
		for _, s := range l.seen {
			if !bytes.HasSuffix([]byte(s), []byte("-control")) && !reported[s] {
				reported[s] = true
				t.Errorf("the frame arrived: %s", s)
			}
		}
	})
}

var everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func ether(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	frame := append(append([]byte{}, to...), from...)
	frame = binary.BigEndian.AppendUint16(frame, kind)
	frame = append(frame, payload...)
	for len(frame) < 60 {
		frame = append(frame, 0)
	}
	return frame
}

func arpFrame(from, to net.HardwareAddr, op uint16, senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr, mark []byte) []byte {
	p := []byte{0, 1, 8, 0, 6, 4}
	p = binary.BigEndian.AppendUint16(p, op)
	p = append(append(p, senderMAC...), sender.AsSlice()...)
	if targetMAC == nil {
		targetMAC = make(net.HardwareAddr, 6)
	}
	p = append(append(p, targetMAC...), target.AsSlice()...)
	return ether(to, from, unix.ETH_P_ARP, append(p, mark...))
}

func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(data[i])<<8 | uint32(data[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// ipv4 makes a packet that opens a TCP connection, or with another protocol one that only bears the mark.
func ipv4(from, to netip.Addr, protocol byte, dest uint16, mark []byte) []byte {
	payload := make([]byte, 20, 64)
	binary.BigEndian.PutUint16(payload, 40000)
	binary.BigEndian.PutUint16(payload[2:], dest)
	payload[12], payload[13] = 5<<4, 2 // a header of 20 bytes, SYN
	if protocol == unix.IPPROTO_UDP {
		payload = payload[:8]
		binary.BigEndian.PutUint16(payload[4:], uint16(8+len(mark)))
	}
	payload = append(payload, mark...)
	header := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(header[2:], uint16(20+len(payload)))
	header = append(append(header, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, payload...)
}

func ipv6(from, to netip.Addr, next byte, mark []byte) []byte {
	payload := append(make([]byte, 20), mark...)
	payload[0] = 135 // a question for a neighbour
	header := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(header[4:], uint16(len(payload)))
	return append(append(append(header, from.AsSlice()...), to.AsSlice()...), payload...)
}

func arpFrames(s scene) []named {
	return []named{
		{"ask all for the neighbour", arpFrame(s.own.mac, everybody, 1, s.own.mac, s.own.ip4, nil, s.neighbour.ip4, s.mark("a1"))},
		{"be the host, for all", arpFrame(s.own.mac, everybody, 2, s.own.mac, s.host, everybody, s.host, s.mark("a2"))},
		{"be the host, for the neighbour", arpFrame(s.own.mac, s.neighbour.mac, 2, s.own.mac, s.host, s.neighbour.mac, s.neighbour.ip4, s.mark("a3"))},
		{"be the neighbour, for the host", arpFrame(s.own.mac, s.hostMAC, 2, s.own.mac, s.neighbour.ip4, s.hostMAC, s.host, s.mark("a4"))},
		{"be the neighbour, in a question to the host", arpFrame(s.own.mac, s.hostMAC, 1, s.own.mac, s.neighbour.ip4, nil, s.host, s.mark("a5"))},
		{"be the neighbour, with its MAC", arpFrame(s.neighbour.mac, s.hostMAC, 1, s.neighbour.mac, s.neighbour.ip4, nil, s.host, s.mark("a6"))},
		{"own MAC outside, the neighbour's inside", arpFrame(s.own.mac, s.hostMAC, 1, s.neighbour.mac, s.own.ip4, nil, s.host, s.mark("a7"))},
		{"ask the neighbour itself", arpFrame(s.own.mac, s.neighbour.mac, 1, s.own.mac, s.own.ip4, nil, s.neighbour.ip4, s.mark("a8"))},
	}
}

func spoofedFrames(s scene) []named {
	return []named{
		{"the neighbour's MAC", ether(s.hostMAC, s.neighbour.mac, unix.ETH_P_IP, ipv4(s.own.ip4, s.host, unix.IPPROTO_TCP, 4222, s.mark("s1")))},
		{"the neighbour's MAC and address", ether(s.hostMAC, s.neighbour.mac, unix.ETH_P_IP, ipv4(s.neighbour.ip4, s.host, unix.IPPROTO_TCP, 4222, s.mark("s2")))},
		{"the neighbour's address", ether(s.hostMAC, s.own.mac, unix.ETH_P_IP, ipv4(s.neighbour.ip4, s.host, unix.IPPROTO_TCP, 4222, s.mark("s3")))},
		{"the host's address", ether(s.hostMAC, s.own.mac, unix.ETH_P_IP, ipv4(s.host, s.host, unix.IPPROTO_TCP, 4222, s.mark("s4")))},
		{"the host's MAC", ether(s.neighbour.mac, s.hostMAC, unix.ETH_P_IP, ipv4(s.host, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark("s5")))},
		{"the loopback's address", ether(s.hostMAC, s.own.mac, unix.ETH_P_IP, ipv4(netip.MustParseAddr("127.0.0.1"), s.host, unix.IPPROTO_TCP, 4222, s.mark("s6")))},
	}
}

// directFrames go to the neighbour's MAC, or to its address by way of the host.
func directFrames(s scene) []named {
	return []named{
		{"to the neighbour's port", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark("d1")))},
		{"by way of the host", ether(s.hostMAC, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark("d2")))},
		{"UDP", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_UDP, 53, s.mark("d3")))},
		{"ICMP", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_ICMP, 8, s.mark("d4")))},
		{"another protocol", ether(s.neighbour.mac, s.own.mac, 0x88b5, s.mark("d5"))},
		{"as the host's answer", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_IP, ipv4(s.host, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark("d6")))},
	}
}

func taggedFrames(s scene) []named {
	tag := func(kind uint16, id uint16, inner uint16, payload []byte) []byte {
		return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, id), inner), payload...)
	}
	var all []named
	for i, id := range []uint16{0, 1, 100, 4094} {
		packet := ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark(fmt.Sprint("v", i)))
		all = append(all,
			named{fmt.Sprint("VLAN ", id), ether(s.neighbour.mac, s.own.mac, unix.ETH_P_8021Q, tag(unix.ETH_P_8021Q, id, unix.ETH_P_IP, packet))},
			named{fmt.Sprint("VLAN to all ", id), ether(everybody, s.own.mac, unix.ETH_P_8021Q, tag(unix.ETH_P_8021Q, id, unix.ETH_P_IP, packet))},
			named{fmt.Sprint("VLAN to the host ", id), ether(s.hostMAC, s.own.mac, unix.ETH_P_8021Q, tag(unix.ETH_P_8021Q, id, unix.ETH_P_IP, packet))})
	}
	inner := tag(unix.ETH_P_8021Q, 100, unix.ETH_P_IP, ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark("v9")))
	return append(all, named{"two tags", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_8021AD, tag(unix.ETH_P_8021AD, 1, unix.ETH_P_8021Q, inner))})
}

func ipv6Frames(s scene) []named {
	all := netip.MustParseAddr("ff02::1")
	group := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	frames := []named{
		{"to all", ether(group, s.own.mac, unix.ETH_P_IPV6, ipv6(s.own.linkLocal, all, unix.IPPROTO_ICMPV6, s.mark("6a")))},
		{"to the neighbour's link-local address", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_IPV6, ipv6(s.own.linkLocal, s.neighbour.linkLocal, unix.IPPROTO_TCP, s.mark("6b")))},
		{"as the neighbour", ether(s.hostMAC, s.own.mac, unix.ETH_P_IPV6, ipv6(s.neighbour.linkLocal, all, unix.IPPROTO_ICMPV6, s.mark("6c")))},
		{"a router's advertisement", ether(group, s.own.mac, unix.ETH_P_IPV6, ipv6(s.own.linkLocal, all, unix.IPPROTO_ICMPV6, s.mark("6d")))},
	}
	if s.neighbour.ip6.IsValid() && s.own.ip6.IsValid() {
		frames = append(frames,
			named{"to the neighbour's address", ether(s.neighbour.mac, s.own.mac, unix.ETH_P_IPV6, ipv6(s.own.ip6, s.neighbour.ip6, unix.IPPROTO_TCP, s.mark("6e")))},
			named{"by way of the host", ether(s.hostMAC, s.own.mac, unix.ETH_P_IPV6, ipv6(s.own.ip6, s.neighbour.ip6, unix.IPPROTO_TCP, s.mark("6f")))},
			named{"from the neighbour's address", ether(s.hostMAC, s.own.mac, unix.ETH_P_IPV6, ipv6(s.neighbour.ip6, s.own.ip6, unix.IPPROTO_TCP, s.mark("6g")))})
	}
	return frames
}

func broadcastFrames(s scene) []named {
	ones, dhcp := netip.MustParseAddr("255.255.255.255"), ipv4
	return []named{
		{"DHCP", ether(everybody, s.own.mac, unix.ETH_P_IP, dhcp(netip.IPv4Unspecified(), ones, unix.IPPROTO_UDP, 67, s.mark("b1")))},
		{"UDP to all", ether(everybody, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, ones, unix.IPPROTO_UDP, 5353, s.mark("b2")))},
		{"mDNS", ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, netip.MustParseAddr("224.0.0.251"), unix.IPPROTO_UDP, 5353, s.mark("b3")))},
		{"TCP to all", ether(everybody, s.own.mac, unix.ETH_P_IP, ipv4(s.own.ip4, s.neighbour.ip4, unix.IPPROTO_TCP, 3306, s.mark("b4")))},
		{"spanning tree", ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, s.own.mac, 0x0026, s.mark("b5"))},
		{"802.1X", ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 3}, s.own.mac, 0x888e, s.mark("b6"))},
		{"LLDP", ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0xe}, s.own.mac, 0x88cc, s.mark("b7"))},
		{"another protocol", ether(everybody, s.own.mac, 0x88b5, s.mark("b8"))},
	}
}

package hostnet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// On the tenant network guests have IPv6 addresses too, so that clients with IPv6 reach them without translation between the families. The range is a
// unique local /64 that follows from the deployment's hash. Nothing is negotiated: no link-local addresses, no router advertisements, no neighbour
// discovery; both ends know each other as permanent neighbours.

// hasIPv6 reports whether this machine's kernel speaks IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all/forwarding")
	return err == nil
}

// prefix6 is the range of a side's IPv6 addresses: that of the tenant network; the management network has none.
func (d deployment) prefix6(s side) netip.Prefix {
	if s.letter != "t" || !hasIPv6() {
		return netip.Prefix{}
	}
	sum := sha256.Sum256([]byte("ipv6 " + d.hash))
	b := [16]byte{0: 0xfd}
	copy(b[1:8], sum[:7])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// host6 is the bridge's IPv6 address.
func (s side) host6() netip.Addr { return s.prefix6.Addr().Next() }

// address6 is the instance's IPv6 address; the zero value where the side has none.
func (r record) address6(s side) netip.Addr {
	if !s.prefix6.IsValid() {
		return netip.Addr{}
	}
	b := s.prefix6.Addr().As16()
	binary.BigEndian.PutUint32(b[12:], uint32(r.number))
	return netip.AddrFrom16(b)
}

// everyHost and everyHost6 are where a default route leads.
var (
	everyHost  = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	everyHost6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// silenceIPv6 turns IPv6 off on an interface of the calling thread's namespace. Where the kernel has none, or /proc/sys cannot be written, nothing is
// done: the filters drop what is not asked for anyway.
func silenceIPv6(device string) error {
	if err := tunable("ipv6", device, "disable_ipv6", "1"); err != nil {
		return fmt.Errorf("turn IPv6 off on %s: %w", device, err)
	}
	return nil
}

// quietIPv6 lets an interface of the calling thread's namespace speak IPv6, without anything that it would do by itself.
func quietIPv6(device string) error {
	for _, s := range [][2]string{{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"autoconf", "0"}, {"disable_ipv6", "0"}} {
		if err := tunable("ipv6", device, s[0], s[1]); err != nil {
			return fmt.Errorf("switch on IPv6 for %s: %w", device, err)
		}
	}
	return nil
}

func tunablePath(family, device, name string) string {
	return filepath.Join("/proc/sys/net", family, "conf", device, name)
}

// tunable sets a setting of an interface in the calling thread's namespace unless it has the value. Where it is not there or cannot be written, nothing
// is done.
func tunable(family, device, name, value string) error {
	path := tunablePath(family, device, name)
	if had, err := os.ReadFile(path); err == nil && string(had) == value+"\n" {
		return nil
	}
	return write(path, value)
}

// write writes a setting of the kernel. Where it is not there or cannot be written, nothing is done.
func write(path, value string) error {
	err := os.WriteFile(path, []byte(value), 0)
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

// Package machinedata is what a virtual machine is told at its start: Nova's user data of our instances, and the few things that a guest takes from the
// metadata that Nova itself writes beside it. The cloud driver makes it, the guest reads it.
//
// User data stays where it is for the machine's whole life: in Nova's database, on the config drive, at the metadata address. So nothing in it is worth
// stealing once the guest has enrolled: addresses, the bundle of certificates that it believes, and a token that works once. Parse is strict, because what
// it returns is set as root: a field that it does not know, or a value that is not what it should be, is an error with the field's name.
package machinedata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
)

// Version is the format that Encode writes and Parse reads.
const Version = 1

// Limits. MaxBytes is well below the 64 KiB (of base64) that Nova takes, and keeps the whole of it readable on a config drive.
const (
	MaxBytes      = 16 << 10
	maxInterfaces = 16
	maxAddresses  = 16
	maxRoutes     = 64
	maxURLs       = 16
	maxServers    = 3 // the resolver of the C library reads no more
	minMTU        = 1280
	maxMTU        = 9216
)

// Role says what an interface is for.
type Role string

// The roles.
const (
	RoleManagement Role = "management" // to the controllers: no default route, nothing comes in
	RoleUser       Role = "user"       // the database's clients
)

// Data is the whole user data.
type Data struct {
	Trove int          `json:"trove"` // Version
	Boot  bus.BootData `json:"boot"`
	// DataVolume is the id of the volume that the data is on, PreviousVolume that of a volume with the image that the instance had before, "" for none. The
	// first 20 characters of an id are the disk's serial number.
	DataVolume     string `json:"data_volume"`
	PreviousVolume string `json:"previous_volume,omitempty"`
	// IsolateManagement closes the management network to everything in the guest but the agent.
	IsolateManagement bool        `json:"isolate_management"`
	Interfaces        []Interface `json:"interfaces"`
}

// Interface is a network interface, found by its hardware address.
type Interface struct {
	MAC         string   `json:"mac"`
	Role        Role     `json:"role"`
	Addresses   []string `json:"addresses"`             // with the length of the prefix
	Gateway     string   `json:"gateway,omitempty"`     // of the default route, "" for none; it may be outside the addresses' networks
	Gateway6    string   `json:"gateway6,omitempty"`    // of the default route of IPv6 where Gateway is of that of IPv4
	MTU         int      `json:"mtu,omitempty"`         // 0: the device's own
	Routes      []Route  `json:"routes,omitempty"`      // beside the default routes
	Nameservers []string `json:"nameservers,omitempty"` // none: names are not resolved over it
}

// Route is a way to a network.
type Route struct {
	To  string `json:"to"`
	Via string `json:"via"`
}

// serialLength is how much of a volume's id a virtio disk's serial number holds.
const serialLength = 20

// Serial returns the serial number that the disk of a volume has in the guest.
func Serial(volume string) string { return volume[:min(len(volume), serialLength)] }

// Encode checks the data and returns it as user data. An error is a fault of the caller.
func Encode(d Data) ([]byte, error) {
	d.Trove = Version
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("encode the machine data: %w", err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("encode the machine data: %w", err)
	}
	if b.Len() > MaxBytes {
		return nil, fmt.Errorf("encode the machine data: it has %d bytes, more than %d", b.Len(), MaxBytes)
	}
	return b.Bytes(), nil
}

// Parse reads user data. No value of it is in an error: the console shows errors, and there is a token in the data.
func Parse(data []byte) (Data, error) {
	d, err := parse(data)
	if err != nil {
		return Data{}, fmt.Errorf("read the machine data: %w", err)
	}
	return d, nil
}

func parse(data []byte) (Data, error) {
	var d Data
	if len(data) > MaxBytes {
		return d, fmt.Errorf("it has %d bytes, more than %d", len(data), MaxBytes)
	}
	var version struct {
		Trove int `json:"trove"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return d, plain(err)
	}
	if version.Trove != Version {
		return d, fmt.Errorf("trove: the format is %d, this guest reads %d: use an image of the controllers' release", version.Trove, Version)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, plain(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return d, errors.New("there is something behind it")
	}
	return d, d.check()
}

// plain says where the text is not what it should be, without quoting it.
func plain(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: it is a %s", t.Field, t.Value)
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("it is no JSON at byte %d", s.Offset)
	}
	if name, found := strings.CutPrefix(err.Error(), "json: unknown field "); found && len(name) < 64 {
		return fmt.Errorf("there is no field %s", name)
	}
	return errors.New("it is no JSON of this format")
}

var enginePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func (d *Data) check() error {
	if err := checkBoot(d.Boot); err != nil {
		return fmt.Errorf("boot.%w", err)
	}
	if !trove.ValidID(d.DataVolume) {
		return errors.New("data_volume: it is no id of a volume")
	}
	if d.PreviousVolume != "" && (!trove.ValidID(d.PreviousVolume) || Serial(d.PreviousVolume) == Serial(d.DataVolume)) {
		return errors.New("previous_volume: it is no id of another volume")
	}
	return d.checkInterfaces()
}

func checkBoot(b bus.BootData) error {
	switch {
	case !trove.ValidID(b.Instance):
		return errors.New("instance: it is no id of an instance")
	case !enginePattern.MatchString(b.Engine):
		return errors.New("engine: it is no name of an engine")
	case b.Token == "" || len(b.Token) > 256:
		return errors.New("token: it is missing or too long")
	case len(b.EnrolURLs) == 0 || len(b.EnrolURLs) > maxURLs:
		return fmt.Errorf("enrol_urls: there must be between 1 and %d", maxURLs)
	case b.CABundle == "":
		return errors.New("ca_bundle: it is missing")
	}
	for i, u := range b.EnrolURLs {
		if !strings.HasPrefix(u, "https://") || strings.ContainsAny(u, " \t\r\n\"'\\") {
			return fmt.Errorf("enrol_urls[%d]: it is no https address", i)
		}
	}
	return nil
}

func (d *Data) checkInterfaces() error {
	if len(d.Interfaces) == 0 || len(d.Interfaces) > maxInterfaces {
		return fmt.Errorf("interfaces: there must be between 1 and %d", maxInterfaces)
	}
	seen := map[string]bool{}
	management, gateways := 0, map[bool]int{}
	for i, n := range d.Interfaces {
		if err := n.check(); err != nil {
			return fmt.Errorf("interfaces[%d].%w", i, err)
		}
		if seen[n.MAC] {
			return fmt.Errorf("interfaces[%d].mac: another interface has it", i)
		}
		seen[n.MAC] = true
		if n.Role == RoleManagement {
			management++
		}
		for _, g := range n.Gateways() {
			gateways[g.Is4()]++
		}
	}
	switch {
	case management != 1:
		return fmt.Errorf("interfaces: %d have the role management, not 1", management)
	case gateways[true] > 1 || gateways[false] > 1:
		return errors.New("interfaces: more than one has a gateway of the same family")
	}
	return nil
}

func (n Interface) check() error {
	mac, err := net.ParseMAC(n.MAC)
	switch {
	case err != nil || len(mac) != 6 || mac.String() != n.MAC || mac[0]&1 != 0:
		return errors.New("mac: it is no hardware address of an interface in lower case with colons")
	case n.Role != RoleManagement && n.Role != RoleUser:
		return errors.New("role: it is neither management nor user")
	case len(n.Addresses) == 0 || len(n.Addresses) > maxAddresses:
		return fmt.Errorf("addresses: there must be between 1 and %d", maxAddresses)
	case n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU):
		return fmt.Errorf("mtu: it must be between %d and %d", minMTU, maxMTU)
	case n.Role == RoleManagement && n.Gateway+n.Gateway6 != "":
		return errors.New("gateway: the management interface has none, only routes")
	}
	var on []netip.Prefix
	for i, text := range n.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil || !usable(p.Addr()) || p.Bits() == 0 {
			return fmt.Errorf("addresses[%d]: it is no address of a machine with the length of its prefix", i)
		}
		on = append(on, p)
	}
	if n.Gateway != "" && !hasFamily(on, n.Gateway) {
		return errors.New("gateway: it is no address of a machine of the same family as one of the interface's addresses")
	}
	if err := n.checkGateway6(on); err != nil {
		return err
	}
	if err := n.checkRoutes(on); err != nil {
		return err
	}
	if len(n.Nameservers) > maxServers {
		return fmt.Errorf("nameservers: there may be %d at most", maxServers)
	}
	for i, text := range n.Nameservers {
		if a, err := netip.ParseAddr(text); err != nil || !usable(a) {
			return fmt.Errorf("nameservers[%d]: it is no address of a machine", i)
		}
	}
	return nil
}

// checkGateway6 sees to it that there is one way alone to say what the gateways are.
func (n Interface) checkGateway6(on []netip.Prefix) error {
	if n.Gateway6 == "" {
		return nil
	}
	if !hasFamily(on, n.Gateway6) || netip.MustParseAddr(n.Gateway6).Is4() {
		return errors.New("gateway6: it is no IPv6 address of a machine, or the interface has no such address")
	}
	if n.Gateway == "" || !netip.MustParseAddr(n.Gateway).Is4() {
		return errors.New("gateway6: there is no gateway of IPv4 beside it: this one is the gateway")
	}
	return nil
}

func (n Interface) checkRoutes(on []netip.Prefix) error {
	if len(n.Routes) > maxRoutes {
		return fmt.Errorf("routes: there may be %d at most", maxRoutes)
	}
	for i, r := range n.Routes {
		to, err := netip.ParsePrefix(r.To)
		switch {
		case err != nil || to.Masked() != to || to.Addr().Zone() != "":
			return fmt.Errorf("routes[%d].to: it is no network", i)
		case to.Bits() == 0:
			return fmt.Errorf("routes[%d].to: a default route is a gateway", i)
		case !hasFamily(on, r.Via) || to.Addr().Is4() != netip.MustParseAddr(r.Via).Is4():
			return fmt.Errorf("routes[%d].via: it is no address of a machine of the same family as one of the interface's addresses", i)
		}
	}
	return nil
}

// usable reports whether a machine can have the address.
func usable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast()
}

func hasFamily(on []netip.Prefix, address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && usable(a) && slices.ContainsFunc(on, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
}

// Gateways are those of the default routes, of each family one at most.
func (n Interface) Gateways() []netip.Addr {
	var all []netip.Addr
	for _, text := range []string{n.Gateway, n.Gateway6} {
		if text != "" {
			all = append(all, netip.MustParseAddr(text))
		}
	}
	return all
}

// InNetwork reports whether a gateway is in one of the interface's own networks. One that is not, such as a router's link-local address, is on the link
// all the same.
func (n Interface) InNetwork(gateway netip.Addr) bool {
	return slices.ContainsFunc(n.Addresses, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Contains(gateway)
	})
}

package hostnet

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// record is what is written down of an instance. Its number is part of the file's name, so that one rename makes both true.
type record struct {
	instance string
	number   int
	rules    rules
}

// rules is the content of an instance's file.
type rules struct {
	TCPPorts []int          `json:"tcp_ports"`
	Access   []netip.Prefix `json:"access"`
	Public   bool           `json:"public,omitempty"`
	// What the instance has of the public ports or addresses, until it is removed. The ports are those for TCPPorts, in that order.
	HostPorts []int        `json:"host_ports,omitempty"`
	Own       []netip.Addr `json:"own_addresses,omitempty"`
}

func (r record) file() string { return strconv.Itoa(r.number) + "." + r.instance + ".json" }

// port is the name of the host's end of a veth pair.
func (d deployment) port(s side, number int) string {
	digits := strconv.FormatInt(int64(number), 36)
	return d.prefix() + strings.Repeat("0", max(0, 3-len(digits))) + digits + s.letter
}

// address is the instance's address in a network.
func (r record) address(s side) netip.Addr { return plus(s.prefix.Addr(), uint32(r.number)) }

// mac is the MAC of the instance's interface. It follows from the instance alone and never changes.
func (d deployment) mac(s side, instance string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(d.hash + " " + s.letter + " " + instance))
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]} // 02: administered locally, for one
}

// bridgeMAC is given to a bridge so that it does not change with its ports.
func (d deployment) bridgeMAC(s side) net.HardwareAddr { return d.mac(s, "bridge") }

// names returns the number of each instance and the instances' numbers' owner, without reading the files.
func (d deployment) numbers() (map[string]int, error) {
	entries, err := os.ReadDir(d.records())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list the networks of the instances: %w", err)
	}
	all := make(map[string]int, len(entries))
	for _, e := range entries {
		digits, rest, _ := strings.Cut(e.Name(), ".")
		id, ok := strings.CutSuffix(rest, ".json")
		number, err := strconv.Atoi(digits)
		if ok && err == nil && trove.ValidID(id) {
			all[id] = number
		}
	}
	return all, nil
}

// find returns the instance's record, false if there is none.
func (d deployment) find(instance string) (record, bool, error) {
	all, err := d.numbers()
	if err != nil {
		return record{}, false, err
	}
	number, ok := all[instance]
	if !ok {
		return record{}, false, nil
	}
	r := record{instance: instance, number: number}
	data, err := os.ReadFile(filepath.Join(d.records(), r.file()))
	if errors.Is(err, os.ErrNotExist) {
		return record{}, false, nil // removed meanwhile
	}
	if err == nil {
		err = json.Unmarshal(data, &r.rules)
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read the network of instance %s: %w", instance, err)
	}
	return r, true, nil
}

// readRecords returns all records, ordered by instance.
func (d deployment) readRecords() ([]record, error) {
	numbers, err := d.numbers()
	if err != nil {
		return nil, err
	}
	all := make([]record, 0, len(numbers))
	for id := range numbers {
		r, ok, err := d.find(id)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b record) int { return strings.Compare(a.instance, b.instance) })
	return all, nil
}

func (d deployment) write(r record) error {
	data, err := json.Marshal(r.rules)
	if err == nil {
		err = atomicfile.Write(filepath.Join(d.records(), r.file()), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write down the network of instance %s: %w", r.instance, err)
	}
	return nil
}

// ownUnknown adds the numbers that ports on this machine have to those that are taken.
func (n *Net) ownUnknown(owner map[int]string) error {
	links, err := listLinks()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		if !n.d.isPort(name) {
			continue
		}
		digits := name[len(n.d.prefix()) : len(name)-1]
		if number, err := strconv.ParseInt(digits, 36, 32); err == nil && owner[int(number)] == "" {
			owner[int(number)] = name
		}
	}
	return nil
}

// number chooses the number of a new instance: that of the wanted address, or a free one. Where it begins to look depends on the instance, so that
// a number is rarely used again soon. The caller has the lock.
func (n *Net) number(instance string, want netip.Addr) (int, error) {
	all, err := n.d.numbers()
	if err != nil {
		return 0, err
	}
	owner := make(map[int]string, len(all))
	for id, number := range all {
		owner[number] = id
	}
	if n.keep {
		if err := n.ownUnknown(owner); err != nil {
			return 0, err
		}
	}
	// The first address is the network's, the second the bridge's, the last the broadcast.
	const first = 2
	size := 1 << (32 - max(n.management.prefix.Bits(), n.tenant.prefix.Bits()))
	count := min(size, 36*36*36) - 1 - first
	if want.IsValid() {
		number := -1
		if n.tenant.prefix.Contains(want) {
			number = minus(want, n.tenant.prefix.Addr())
		}
		if number < first || number >= first+count {
			return 0, bad("%s is not an address for instances: the tenant network is %s.", want, n.tenant.prefix)
		}
		if owner[number] != "" {
			return 0, bad("The address %s is in use.", want)
		}
		return number, nil
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	start := int(h.Sum32() % uint32(count))
	for i := range count {
		if number := first + (start+i)%count; owner[number] == "" {
			return number, nil
		}
	}
	return 0, trove.Permanent(trove.Errorf(trove.KindOverLimit,
		"All %d addresses of the networks %s and %s are in use.", count, n.management.prefix, n.tenant.prefix))
}

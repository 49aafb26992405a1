package hostnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The kernel counts the changes of all its packet filters. A count that is ours says that nobody else changed anything: to know that costs one question.
// Only after another count are our tables read, and compared with what they were.

// filterState is what is known of our tables. The zero value knows nothing.
type filterState struct {
	known      bool
	generation uint32 // at which the tables were as they should be
	// print is the hash of the tables' content, if it was computed since they were changed last.
	print []byte
}

// raw returns a socket to the packet filter, besides that of the library. The caller has the lock.
func (n *Net) rawFilter() (*netlink.Conn, error) {
	if n.raw == nil {
		c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return nil, fmt.Errorf("open the packet filter: %w", err)
		}
		if err := c.SetReadBuffer(bufferBytes); err != nil {
			return nil, errors.Join(fmt.Errorf("open the packet filter: %w", err), c.Close())
		}
		n.raw = c
	}
	return n.raw, nil
}

func (n *Net) closeRaw() {
	if n.raw != nil {
		_ = n.raw.Close()
		n.raw = nil
	}
}

// ask sends one message to the packet filter and returns the answers.
func (n *Net) ask(kind uint16, family byte, flags netlink.HeaderFlags, attributes ...netlink.Attribute) ([]netlink.Message, error) {
	c, err := n.rawFilter()
	if err != nil {
		return nil, err
	}
	data, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return nil, err
	}
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		n.closeRaw() // there may be answers in it that nobody read
	}
	return answers, err
}

// generation returns the count of the changes of all packet filters of this machine.
func (n *Net) generation() (uint32, error) {
	answers, err := n.ask(unix.NFT_MSG_GETGEN, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("read the generation of the packet filter: %w", err)
	}
	for _, m := range answers {
		for kind, value := range attributes(m.Data[4:]) {
			if kind == unix.NFTA_GEN_ID && len(value) == 4 {
				return binary.BigEndian.Uint32(value), nil
			}
		}
	}
	return 0, errors.New("read the generation of the packet filter: the kernel gave none")
}

// attributes goes through netlink attributes. What is broken ends it.
func attributes(b []byte) func(yield func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if size < unix.SizeofNlAttr || size > len(b) || !yield(kind, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// fingerprint returns a hash of our tables: the same for the same rules, whenever they were made.
func (n *Net) fingerprint() ([]byte, error) {
	h := sha256.New()
	for _, family := range []byte{byte(nftables.TableFamilyBridge), byte(nftables.TableFamilyINet)} {
		name := netlink.Attribute{Type: unix.NFTA_TABLE_NAME, Data: []byte(n.d.table() + "\x00")}
		// Of what the kernel lists we take what was asked for: not handles, positions and counts of users.
		for _, list := range []struct {
			kind  uint16
			table uint16 // the attribute that names the table
			take  []uint16
		}{
			{unix.NFT_MSG_GETTABLE, unix.NFTA_TABLE_NAME, []uint16{unix.NFTA_TABLE_FLAGS}},
			{unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, []uint16{unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE}},
			{unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, []uint16{unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_EXPRESSIONS}},
			{unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, []uint16{unix.NFTA_SET_NAME, unix.NFTA_SET_FLAGS}},
		} {
			answers, err := n.ask(list.kind, family, netlink.Dump, name)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return nil, fmt.Errorf("read the packet filter: %w", err)
			}
			n.hashList(h, answers, list.table, list.take)
		}
	}
	f, err := n.filters()
	if err != nil {
		return nil, err
	}
	for _, s := range append(f.public.all(), f.from, f.to) {
		if err := n.hashElements(h, s); err != nil {
			return nil, err
		}
	}
	return h.Sum(nil), nil
}

// hashList hashes what is listed of our table. The order of names is by chance, that of the rules of a chain is not.
func (n *Net) hashList(h hash.Hash, answers []netlink.Message, table uint16, take []uint16) {
	type named struct{ name, entry []byte }
	var all []named
	for _, m := range answers {
		var name, entry []byte
		ours := false
		for kind, value := range attributes(m.Data[4:]) {
			if kind == table && string(bytes.TrimRight(value, "\x00")) == n.d.table() {
				ours = true
			}
			if kind == take[0] {
				name = value
			}
			if slices.Contains(take, kind) {
				entry = binary.BigEndian.AppendUint16(entry, kind)
				entry = binary.BigEndian.AppendUint32(entry, uint32(len(value)))
				entry = append(entry, value...)
			}
		}
		if ours {
			all = append(all, named{name, entry})
		}
	}
	slices.SortStableFunc(all, func(a, b named) int { return bytes.Compare(a.name, b.name) })
	for _, one := range all {
		_, _ = h.Write(one.entry)
	}
	_, _ = h.Write([]byte{0, byte(take[0])})
}

// hashElements hashes what a set holds, in any order.
func (n *Net) hashElements(h hash.Hash, s *nftables.Set) error {
	answers, err := n.ask(unix.NFT_MSG_GETSETELEM, byte(s.Table.Family), netlink.Dump,
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(s.Table.Name + "\x00")},
		netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(s.Name + "\x00")})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("read the set %s of the packet filter: %w", s.Name, err)
	}
	var all [][]byte
	for _, m := range answers {
		for kind, list := range attributes(m.Data[4:]) {
			if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, element := range attributes(list) {
				all = append(all, element)
			}
		}
	}
	slices.SortFunc(all, bytes.Compare)
	_, _ = h.Write([]byte(s.Name))
	for _, element := range all {
		_, _ = h.Write(element)
	}
	return nil
}

// after returns what is known after a transaction of ours: if it was the only one since a generation at which the tables were as they should be, they
// are now. A transaction that replaces them makes them so.
func (n *Net) after(before uint32, known, replaced bool) filterState {
	now, err := n.generation()
	if err != nil || !known || now != before+1 || !replaced && (!n.state.known || n.state.generation != before) {
		return filterState{}
	}
	return filterState{known: true, generation: now}
}

// checkFilters reports whether our tables were not as they should be; then they are again. If it is thorough the hash is computed that spares replacing them
// when others change theirs. The caller has the lock.
func (n *Net) checkFilters(thorough bool, all func() ([]record, error)) (mended bool, err error) {
	now, err := n.generation()
	if err != nil {
		return false, err
	}
	if n.state.known && n.state.generation == now {
		if thorough && n.state.print == nil {
			n.state.print, err = n.fingerprint()
		}
		return false, err
	}
	found, err := n.fingerprint()
	if err != nil {
		return false, err
	}
	// Changed while it was read: what was found may be of both.
	for range 3 {
		after, err := n.generation()
		if err != nil {
			return false, err
		}
		if after == now {
			break
		}
		if found, err = n.fingerprint(); err != nil {
			return false, err
		}
		now = after
	}
	if n.state.print != nil && bytes.Equal(found, n.state.print) {
		n.state.known, n.state.generation = true, now
		return false, nil
	}
	records, err := all()
	if err != nil {
		return false, err
	}
	if err := n.refilter(records); err != nil {
		return false, err
	}
	if n.state.print, err = n.fingerprint(); err != nil {
		return false, err
	}
	return !bytes.Equal(found, n.state.print), nil
}

package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// handmade is what was made on this host for the management network.
type handmade struct {
	Guards     []string            `json:"guards"` // bridges that let nothing into this host
	Interfaces []handmadeInterface `json:"interfaces"`
}

type handmadeInterface struct {
	Agent   string       `json:"agent"`
	Name    string       `json:"name"`
	Port    string       `json:"port"`
	MAC     string       `json:"mac"`
	MTU     int          `json:"mtu"`
	Address netip.Prefix `json:"address"`
}

func (m Machine) read() (h handmade, err error) {
	data, err := os.ReadFile(m.File)
	if errors.Is(err, os.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	return h, wrap(err, "read what was made on this host")
}

// remember changes what the file says.
func (m Machine) remember(change func(h *handmade)) error {
	if m.File == "" {
		return nil
	}
	h, err := m.read()
	if err != nil {
		return err
	}
	change(&h)
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("write what was made on this host: %w", err)
	}
	return atomicfile.Write(m.File, append(data, '\n'), 0o600)
}

// Restore makes again what was made on this host, as after a restart of it, and returns it in words. It asks no OpenStack. It may be repeated.
func (m Machine) Restore(ctx context.Context) (made []string, err error) {
	h, err := m.read()
	if err != nil {
		return nil, err
	}
	if len(h.Guards)+len(h.Interfaces) == 0 {
		return nil, trove.Errorf(trove.KindNotFound, "%s names nothing to make: trove openstack bootstrap --interface writes it.", m.File)
	}
	for _, bridge := range h.Guards { // before there is an address that could be reached
		if err := guard(bridge); err != nil {
			return made, err
		}
		made = append(made, "nothing comes in by "+bridge)
	}
	for _, i := range h.Interfaces {
		if err := plug(ctx, i.Agent, i.Name, Port{ID: i.Port, MAC: i.MAC}, i.MTU, i.Address); err != nil {
			return made, err
		}
		made = append(made, i.Name+" has "+i.Address.String())
	}
	return made, nil
}

// Undo returns the commands that take away what was made on this host, the memory of it last; none if nothing was. The port of an interface goes before it.
func (m Machine) Undo() (commands []string, err error) {
	h, err := m.read()
	if err != nil || len(h.Guards)+len(h.Interfaces) == 0 {
		return nil, err
	}
	for _, i := range h.Interfaces {
		switch i.Agent {
		case AgentLinuxBridge:
			commands = append(commands, "ip link delete "+i.Name)
		default:
			commands = append(commands, "ovs-vsctl --if-exists del-port br-int "+i.Name)
		}
	}
	if len(h.Guards) > 0 { // when there is no address any more that could be reached
		commands = append(commands, "nft delete table inet "+guardTable, "nft delete table arp "+guardTable)
	}
	return append(commands, "rm "+m.File), nil
}

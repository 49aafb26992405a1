package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/trove-dbaas/trove/tests/outside"
)

// Machine is a client on a network of the cloud: a network namespace of this machine on a port of its own, as a server of the tenant would have it.
type Machine struct {
	Address string
	cloud   *Cloud
	port    string
	netns   string
}

// NewMachine makes one in that project on that network. Remove takes it away again.
func (c *Cloud) NewMachine(ctx context.Context, project, network, name string) (*Machine, error) {
	var networks struct{ Networks []struct{ ID string } }
	if err := c.get(ctx, "admin", "network", "/v2.0/networks?name="+network, &networks); err != nil {
		return nil, err
	}
	if len(networks.Networks) != 1 {
		return nil, fmt.Errorf("%d networks are called %s", len(networks.Networks), network)
	}
	// Neutron's agent on this host connects the port as soon as an interface of the right name is there. Were the owner called compute:, it would leave that to Nova.
	request := map[string]any{"port": map[string]any{
		"name": name, "network_id": networks.Networks[0].ID, "project_id": c.admin[project].project, "binding:host_id": "lab1", "device_owner": "lab:" + name,
	}}
	var answer struct {
		Port struct {
			ID       string
			Mac      string `json:"mac_address"`
			FixedIPs []struct {
				Address string `json:"ip_address"`
				Subnet  string `json:"subnet_id"`
			} `json:"fixed_ips"`
		}
	}
	if err := c.ask(ctx, "POST", "admin", "network", "/v2.0/ports", request, &answer); err != nil {
		return nil, err
	}
	p := answer.Port
	m := &Machine{cloud: c, port: p.ID, netns: "lab-" + name, Address: p.FixedIPs[0].Address}
	var subnet struct {
		Subnet struct {
			CIDR    string
			Gateway string `json:"gateway_ip"`
		}
	}
	if err := c.get(ctx, "admin", "network", "/v2.0/subnets/"+p.FixedIPs[0].Subnet, &subnet); err != nil {
		return nil, errors.Join(err, m.Remove(ctx))
	}
	_, bits, _ := strings.Cut(subnet.Subnet.CIDR, "/")
	tap := "tap" + p.ID[:11]
	for _, line := range []string{
		"netns add " + m.netns,
		"link add " + tap + " type veth peer name eth0 netns " + m.netns,
		"-n " + m.netns + " link set eth0 address " + p.Mac + " mtu 1450 up", // what VXLAN leaves of 1500
		"-n " + m.netns + " addr add " + m.Address + "/" + bits + " dev eth0",
		"-n " + m.netns + " route add default via " + subnet.Subnet.Gateway,
		"link set " + tap + " up",
	} {
		if err := ip(ctx, line); err != nil {
			return nil, errors.Join(err, m.Remove(ctx))
		}
	}
	return m, m.bound(ctx)
}

// bound waits until Neutron says that the port is connected.
func (m *Machine) bound(ctx context.Context) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(300 * time.Millisecond) {
		var answer struct{ Port struct{ Status string } }
		if err := m.cloud.get(ctx, "admin", "network", "/v2.0/ports/"+m.port, &answer); err != nil {
			return err
		}
		if answer.Port.Status == "ACTIVE" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("port %s is %s after a minute", m.port, answer.Port.Status)
		}
	}
}

// Command is a program that runs on the machine, with the files of this one.
func (m *Machine) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/sbin/ip", append([]string{"netns", "exec", m.netns, program}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	return cmd
}

// Dial opens a connection from the machine.
func (m *Machine) Dial(ctx context.Context, address string) (net.Conn, error) {
	return outside.Machine{Netns: "/run/netns/" + m.netns}.Dial(ctx, address)
}

// Reaches says whether packets from the machine get to the address and back, be it that nobody listens there.
func (m *Machine) Reaches(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := m.Dial(ctx, address)
	if err == nil {
		conn.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

// Remove takes the machine away.
func (m *Machine) Remove(ctx context.Context) error {
	err := ip(ctx, "netns delete "+m.netns) // the interfaces go with it
	return errors.Join(err, m.cloud.ask(ctx, "DELETE", "admin", "network", "/v2.0/ports/"+m.port, nil, nil))
}

func ip(ctx context.Context, line string) error {
	if out, err := exec.CommandContext(ctx, "/usr/sbin/ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, out)
	}
	return nil
}

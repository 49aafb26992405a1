package openstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
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

// Here is this machine itself. It has an address on the external network of the lab, so that it is to the cloud what a client somewhere outside is.
func Here() *Machine { return &Machine{Address: "172.24.4.1"} }

// Place is where a machine is: a project's network, with the security groups of those names. None: the default one of the project.
type Place struct {
	Project, Network string
	Groups           []string
}

// NewMachine makes a machine. Remove takes it away again.
func (c *Cloud) NewMachine(ctx context.Context, at Place, name string) (*Machine, error) {
	network, err := c.one(ctx, "networks", at.Network)
	if err != nil {
		return nil, err
	}
	port := map[string]any{
		"name": name, "network_id": network.ID, "project_id": c.admin[at.Project].project, "binding:host_id": "lab1", "device_owner": "lab:" + name,
	}
	var groups []string
	for _, g := range at.Groups {
		group, err := c.one(ctx, "security_groups", g)
		if err != nil {
			return nil, err
		}
		groups = append(groups, group.ID)
	}
	if len(groups) > 0 {
		port["security_groups"] = groups
	}
	// Neutron's agent on this host connects the port as soon as an interface of the right name is there. Had it an owner that is called compute:, the agent
	// would leave that to Nova.
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
	if err := c.ask(ctx, "POST", "admin", "network", "/v2.0/ports", map[string]any{"port": port}, &answer); err != nil {
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
	tap := m.tap()
	lines := []string{
		"netns add " + m.netns,
		"link add " + tap + " type veth peer name eth0 netns " + m.netns,
		"-n " + m.netns + " link set eth0 address " + p.Mac + " mtu " + strconv.Itoa(network.MTU) + " up",
		"-n " + m.netns + " addr add " + m.Address + "/" + bits + " dev eth0",
		"-n " + m.netns + " link set lo up",
		"link set " + tap + " up",
	}
	if subnet.Subnet.Gateway != "" {
		lines = append(lines, "-n "+m.netns+" route add default via "+subnet.Subnet.Gateway)
	}
	for _, line := range lines {
		if err := ip(ctx, line); err != nil {
			return nil, errors.Join(err, m.Remove(ctx))
		}
	}
	if err := m.bound(ctx); err != nil {
		return nil, errors.Join(err, m.Remove(ctx))
	}
	return m, nil
}

// resource is what the machines have to know of something of Neutron's.
type resource struct {
	ID  string
	MTU int
}

// one finds the only network or security group of a name.
func (c *Cloud) one(ctx context.Context, kind, name string) (resource, error) {
	var answer map[string][]resource
	if err := c.get(ctx, "admin", "network", "/v2.0/"+strings.ReplaceAll(kind, "_", "-")+"?name="+name, &answer); err != nil {
		return resource{}, err
	}
	if found := answer[kind]; len(found) == 1 {
		return found[0], nil
	}
	return resource{}, fmt.Errorf("%d %s are called %s", len(answer[kind]), kind, name)
}

// tap is the machine's end of the port on this host, as Neutron's agent knows it.
func (m *Machine) tap() string { return "tap" + m.port[:11] }

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
	if m.netns == "" {
		cmd = exec.CommandContext(ctx, program, args...)
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	return cmd
}

// Dial opens a connection from the machine.
func (m *Machine) Dial(ctx context.Context, address string) (net.Conn, error) {
	if m.netns == "" {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	return outside.Machine{Netns: "/run/netns/" + m.netns}.Dial(ctx, address)
}

// Listen waits for connections on the machine.
func (m *Machine) Listen(ctx context.Context, address string) (l net.Listener, err error) {
	err = outside.Machine{Netns: "/run/netns/" + m.netns}.Do(func() error {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		return err
	})
	return l, err
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
	// The interfaces would go with the namespace, which lives on, without a name, while one of its connections waits for the answer of a server that is gone: for minutes.
	err := errors.Join(ip(ctx, "link delete "+m.tap()), ip(ctx, "netns delete "+m.netns))
	return errors.Join(err, m.cloud.ask(ctx, "DELETE", "admin", "network", "/v2.0/ports/"+m.port, nil, nil))
}

func ip(ctx context.Context, line string) error {
	if out, err := exec.CommandContext(ctx, "/usr/sbin/ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, out)
	}
	return nil
}

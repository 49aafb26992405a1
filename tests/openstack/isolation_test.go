package openstack_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// isolation is what a guest gets to from the management network, and what gets to it: two machines with the guests' own security group are put there, so
// that programs can be run which a guest does not have.
func isolation(t *testing.T, c *openstack.Cloud, s *service) {
	at := openstack.Place{Project: "service", Network: "trove-management", Groups: []string{securityGroup}}
	guest, other := machine(t, c, at, "guest"), machine(t, c, at, "other-guest")
	for name, port := range s.guestPorts {
		to := net.JoinHostPort(controller, port)
		eventually(t, time.Minute, "a guest to reach the "+name, func() bool {
			conn, err := guest.Dial(t.Context(), to)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	l, err := other.Listen(t.Context(), other.Address+":3306")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, api, _ := net.SplitHostPort(s.listen)
	for what, to := range map[string]string{
		"another guest":            other.Address + ":3306",
		"the service's API":        net.JoinHostPort(controller, api),
		"Keystone":                 controller + ":5000",
		"Nova":                     controller + ":8774",
		"Neutron":                  controller + ":9696",
		"Swift":                    controller + ":8080",
		"Nova's metadata":          controller + ":8775",
		"the metadata address":     "169.254.169.254:80",
		"the host's other network": "172.24.4.1:8774",
	} {
		if guest.Reaches(t.Context(), to) {
			t.Errorf("a guest reaches %s at %s", what, to)
		}
	}
	otherPorts(t, guest, s)
	if conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(t.Context(), "tcp", other.Address+":3306"); err == nil {
		conn.Close()
		t.Error("the controller's host reaches a port of a guest on the management network")
	}
}

// otherPorts is whatever else listens on the controller's address at this moment, and a port on which this test does: out of a guest's reach, as is a port where
// nobody is, which would otherwise say that the way to it is open.
func otherPorts(t *testing.T, guest *openstack.Machine, s *service) {
	own, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", controller+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close() }()
	ports := listening(t, controller)
	if _, port, err := net.SplitHostPort(own.Addr().String()); err != nil || !ports[port] {
		t.Fatalf("the ports that listen on %s are %v, without %s (%v)", controller, ports, port, err)
	}
	ports["9"] = true
	for _, port := range s.guestPorts {
		if !ports[port] {
			t.Errorf("nobody listens on the port %s, which guests need", port)
		}
		delete(ports, port)
	}
	var all sync.WaitGroup
	for port := range ports {
		all.Go(func() {
			if to := net.JoinHostPort(controller, port); guest.Reaches(t.Context(), to) {
				t.Errorf("a guest reaches %s", to)
			}
		})
	}
	all.Wait()
	t.Logf("%d other ports of the controller are out of a guest's reach", len(ports))
}

// listening returns the TCP ports that are open on an address of this machine.
func listening(t *testing.T, address string) map[string]bool {
	t.Helper()
	ip := net.ParseIP(address).To4()
	ours := fmt.Sprintf("%02X%02X%02X%02X", ip[3], ip[2], ip[1], ip[0]) // in the order of the processor's bytes
	open := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != "0A" { // LISTEN
				continue
			}
			at, port, _ := strings.Cut(fields[1], ":")
			if at != ours && strings.Trim(at, "0") != "" {
				continue
			}
			n, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			open[strconv.FormatUint(n, 10)] = true
		}
	}
	return open
}

package openstack_test

import (
	"net"
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
		"a port where nobody is":   controller + ":9",
		"the host's other network": "172.24.4.1:8774",
	} {
		if guest.Reaches(t.Context(), to) {
			t.Errorf("a guest reaches %s at %s", what, to)
		}
	}
	if conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(t.Context(), "tcp", other.Address+":3306"); err == nil {
		conn.Close()
		t.Error("the controller's host reaches a port of a guest on the management network")
	}
}

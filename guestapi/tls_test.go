package guestapi_test

import (
	"context"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/guestapi"
)

// TestClientBelievesNoGuestThatCannotBe: a guest is a tenant's machine, and what it says is shown to people.
func TestClientBelievesNoGuestThatCannotBe(t *testing.T) {
	var answer any
	c := serve(t, membus.New(), func(_ context.Context, r guestapi.Request) (any, error) {
		if r.Command == guestapi.CmdPing {
			return guestapi.Hello{
				BootID: "b", AgentVersion: "1", Protocol: 1, Engine: "e",
				Commands: []guestapi.Command{guestapi.CmdShowTLS, guestapi.CmdMachine, guestapi.CmdSetTLS, guestapi.CmdRollbackTLS},
			}, nil
		}
		return answer, nil
	})
	for _, bad := range []guestapi.TLSState{{}, {Mode: "a mode"}, {Mode: "\x1b[2J"}, {Mode: "basic", Cert: strings.Repeat("x", 100<<10)}} {
		answer = bad
		if _, err := c.TLS(t.Context(), instance); trove.KindOf(err) != trove.KindInternal {
			t.Errorf("%.60v: %v", bad, err)
		}
	}
	for _, bad := range []guestapi.MachineInfo{
		{}, {AgentVersion: "1 2"}, {AgentVersion: "1", MemoryKiB: -1}, {AgentVersion: "1", CPUs: -1}, {AgentVersion: "1", Agent: guestapi.ProcessInfo{VMRSS: -1}},
	} {
		answer = bad
		if _, err := c.Machine(t.Context(), instance); trove.KindOf(err) != trove.KindInternal {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	answer = guestapi.MachineInfo{AgentVersion: "1.2", CPUs: 2}
	if m, err := c.Machine(t.Context(), instance); err != nil || m.CPUs != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	answer = guestapi.TLSChanged{Restart: true}
	if d, err := c.SetTLS(t.Context(), instance, guestapi.SetTLSArgs{Off: true}); err != nil || !d.Restart {
		t.Errorf("%+v, %v", d, err)
	}
}

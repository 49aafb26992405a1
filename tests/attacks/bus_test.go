package attacks_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

func metric(name, label, value string) string { return name + "{" + label + `="` + value + `"}` }

func refused(reason string) string { return metric("trove_bus_refusals_total", "reason", reason) }

// to tells an attack who the neighbour is.
func (a *attack) to() map[string]string {
	return map[string]string{
		"neighbour": a.neighbour.ID, "address": a.neighbour.Addresses[0].Address, "operation": a.neighbour.ID,
	}
}

func TestReadTheCommandsOfANeighbour(t *testing.T) {
	a := begin(t)
	a.during(a.guest.ID, "bus-read", a.to(), func() {
		for _, id := range []string{a.neighbour.ID, a.guest.ID} {
			if _, err := a.Client.Databases(t.Context(), id); err != nil {
				t.Errorf("a command to %s: %v", id, err)
			}
		}
	})
	a.counted(refused("subscribe"), 8)
	a.logged("broker refused a client", "Subscription Violation", a.guest.ID)
}

func TestListenToTheControllers(t *testing.T) {
	a := begin(t)
	a.inside("bus-listen", a.to())
	a.counted(refused("subscribe"), 12)
	a.logged("broker refused a client", "$SYS.>")
}

func TestPublishInTheNameOfANeighbour(t *testing.T) {
	a := begin(t)
	a.inside("bus-speak", a.to())
	if i := a.Instance(a.neighbour.ID); i.OperatingStatus != "HEALTHY" {
		t.Errorf("the neighbour is %s", i.OperatingStatus)
	}
	a.counted(refused("publish"), 5)
	a.logged("broker refused a client", "Publish Violation", a.neighbour.ID+".up.hb")
}

func TestCommandTheNeighbour(t *testing.T) {
	a := begin(t)
	a.inside("bus-command", a.to())
	root, err := a.Client.RootEnabled(t.Context(), a.neighbour.ID)
	if err != nil || root {
		t.Errorf("root of the neighbour: %v, %v", root, err)
	}
	a.counted(refused("publish"), 7)
	a.logged("broker refused a client", "Publish Violation", a.neighbour.ID+".cmd")
}

func TestAnswerTheRequestOfANeighbour(t *testing.T) {
	a := begin(t)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			list, err := a.Client.Databases(t.Context(), a.neighbour.ID)
			if err != nil || len(list) != 1 || list[0].Name != "app" {
				t.Errorf("the neighbour's databases: %v, %v", list, err)
				return
			}
		}
	})
	guest := a.fresh("answers")
	a.during(guest, "bus-answer", a.to(), func() {
		// The answer is forged by the asked guest itself, or comes from its agent: both are its right.
		_, _ = a.Client.Databases(t.Context(), guest)
	})
	close(stop)
	asking.Wait()
	a.counted(refused("publish"), 21)
	a.logged("broker refused a client", "Publish Violation", "_INBOX.ctl.requests")
}

// The broker lets a guest name any reply subject: nothing of ours may ever answer to it.
func TestMakeAControllerAnswerToTheNeighbour(t *testing.T) {
	a := begin(t)
	console := filepath.Join(a.runDir(), "i", a.neighbour.ID, "console.log")
	before := readFile(t, console)
	a.inside("bus-reply-subject", a.to())
	// A command to the neighbour comes after whatever was answered: its agent has seen that when it answers.
	if _, err := a.Client.Databases(t.Context(), a.neighbour.ID); err != nil {
		t.Error(err)
	}
	if said := strings.TrimPrefix(readFile(t, console), before); strings.Contains(said, "command failed") {
		t.Errorf("something came to the neighbour: %s", said)
	}
}

func TestForgeReports(t *testing.T) {
	a := begin(t)
	a.inside("bus-forge", a.to())
	a.counted(metric("trove_conductor_dropped_total", "reason", "malformed"), 6)
	a.counted(metric("trove_conductor_dropped_total", "reason", "unknown"), 1)
	a.logged("malformed report was dropped", a.guest.ID)
	if i := a.Instance(a.neighbour.ID); i.OperatingStatus != "HEALTHY" || i.Status != "ACTIVE" {
		t.Errorf("the neighbour is %s, %s", i.Status, i.OperatingStatus)
	}
}

func TestBeSomebodyElseOnTheBus(t *testing.T) {
	a := begin(t)
	a.insideOf(a.fresh("nobody"), "bus-identity", a.to())
	a.counted(refused("identity"), 5)
	a.logged("broker refused a client", "authentication error")
}

func TestOpenManyConnections(t *testing.T) {
	a := begin(t)
	guest := a.fresh("connects")
	a.insideOf(guest, "bus-connections", a.to())
	a.counted(metric("trove_bus_kicks_total", "reason", "connections"), 1)
	a.logged("guest connection cut", guest, "connections")
}

func TestSendAndSubscribeMoreThanAllowed(t *testing.T) {
	a := begin(t)
	a.insideOf(a.fresh("large"), "bus-large", a.to())
	a.counted(refused("payload"), 1)
	a.counted(refused("subscriptions"), 1)
	a.logged("broker refused a client", "maximum payload")
}

func TestFloodTheBus(t *testing.T) {
	a := begin(t)
	seen := a.Instance(a.neighbour.ID).OperatingStatus
	guest := a.fresh("floods")
	a.insideOf(guest, "bus-flood", a.to())
	a.counted(metric("trove_bus_kicks_total", "reason", "rate"), 1)
	a.logged("guest connection cut", guest, "rate")
	deploy.Eventually(t, deploy.Patience, "the neighbour to answer through the API", func() bool {
		_, err := a.Client.Databases(t.Context(), a.neighbour.ID)
		return err == nil
	})
	if now := a.Instance(a.neighbour.ID).OperatingStatus; now != seen {
		t.Errorf("the neighbour is %s, before %s", now, seen)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

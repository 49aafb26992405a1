package guestinit_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/netns"
)

// In a virtual machine the bus is in a network namespace that the first process is not in: an agent that does not join it is taken back all the same.
func TestTheBusIsLookedForInTheNamespaceOfTheManagementNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	t.Parallel()
	w := newWorld(t, "1.0.0")
	w.management = filepath.Join(t.TempDir(), "management")
	w.must(netns.Make(w.management, func() error {
		return exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "link", "set", "lo", "up").Run()
	}))
	t.Cleanup(func() { w.must(netns.Remove(w.management)) })
	var bus net.Listener
	w.must(netns.Do(w.management, func() (err error) {
		bus, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		return err
	}))
	t.Cleanup(func() { _ = bus.Close() })
	w.boot()
	w.release(behaviour{Version: "1.1.0", Speaks: true, Service: "healthy"}, w.key)
	w.until("the image's agent runs", func() bool { return w.runsLast("image") })
	w.want("1.1.0", "op-1", func(x *slots.Wanted) { x.Bus, x.Healthy = []string{bus.Addr().String()}, unwellFor })
	w.until("the image's agent runs again", func() bool { return w.state().Failed != nil && w.runsLast("image") })
	if s := w.state(); !strings.Contains(s.Failed.Sentence, "did not join the bus, which can be reached") {
		t.Errorf("the state is %+v, failed %+v", s, s.Failed)
	}
}

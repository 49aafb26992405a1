package netns_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/netns"
)

func namespace(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	path := filepath.Join(t.TempDir(), "run", "one")
	if netns.Is(path) {
		t.Fatal("there is a namespace before it was made")
	}
	if err := netns.Make(path, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(netns.Remove(path), netns.Remove(path)); err != nil {
			t.Error(err)
		}
		if netns.Is(path) {
			t.Error("the namespace is there after it was removed")
		}
	})
	return path
}

func TestANamespaceHasItsOwnInterfaces(t *testing.T) {
	path := namespace(t)
	if !netns.Is(path) {
		t.Fatal("there is no namespace after it was made")
	}
	var there []net.Interface
	if err := netns.Do(path, func() (err error) { there, err = net.Interfaces(); return err }); err != nil || len(there) != 1 || there[0].Name != "lo" {
		t.Errorf("a new namespace has %v, %v", there, err)
	}
	here, err := net.Interfaces()
	if err != nil || len(here) > 0 && here[0].Flags&net.FlagUp == 0 {
		t.Errorf("afterwards this process sees %v, %v", here, err)
	}
}

func TestDialerConnectsFromTheNamespaceIfThereIsOne(t *testing.T) {
	path := namespace(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	limit := net.Dialer{Timeout: time.Minute}
	if conn, err := netns.Dialer(filepath.Join(t.TempDir(), "none"), limit)(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	for _, address := range []string{l.Addr().String(), "localhost:1"} { // the loopback interface there is down
		if conn, err := netns.Dialer(path, limit)(t.Context(), "tcp", address); err == nil {
			conn.Close()
			t.Errorf("%s was reached from a namespace without a network", address)
		}
	}
}

func TestPrepareRunsInside(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	path, spoilt := filepath.Join(t.TempDir(), "one"), errors.New("spoilt")
	if err := netns.Make(path, func() error { return spoilt }); !errors.Is(err, spoilt) || netns.Is(path) {
		t.Errorf("Make = %v, and there is a namespace: %t", err, netns.Is(path))
	}
}

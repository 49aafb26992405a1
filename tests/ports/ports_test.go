package ports_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/trove-dbaas/trove/tests/ports"
)

func TestNoConnectionGetsAPortOfAServerThatIsAway(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	var low, high int
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for range 200 {
		port, err := ports.Free()
		if err != nil || port >= low || seen[port] {
			t.Fatalf("port %d, %v; connections get %d to %d", port, err, low, high)
		}
		seen[port] = true
	}
}

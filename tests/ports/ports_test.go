package ports //nolint:testpackage // what it would choose on other machines

import "testing"

func TestNoConnectionGetsAPortOfAServerThatIsAway(t *testing.T) {
	low, high := ofConnections()
	_, _, can := outside(low, high)
	seen := map[int]bool{}
	for range 200 {
		port, err := Free()
		if err != nil || can && port >= low && port <= high || seen[port] {
			t.Fatalf("port %d, %v; connections get %d to %d", port, err, low, high)
		}
		seen[port] = true
	}
}

// TestPortsOnMachinesWithOtherRanges: servers with many connections are often told to give away more than the kernel does by itself.
func TestPortsOnMachinesWithOtherRanges(t *testing.T) {
	for _, c := range []struct {
		low, high, first, last int
		ok                     bool
	}{
		{32768, 60999, 10240, 19999, true},
		{1024, 4999, 10240, 19999, true},
		{15000, 65000, 1024, 14999, true},
		{2000, 60000, 60001, 65535, true},
		{1024, 65535, 10240, 19999, false},
	} {
		if first, last, ok := outside(c.low, c.high); first != c.first || last != c.last || ok != c.ok {
			t.Errorf("connections get %d to %d, servers %d to %d, %v; want %d to %d, %v", c.low, c.high, first, last, ok, c.first, c.last, c.ok)
		}
	}
}

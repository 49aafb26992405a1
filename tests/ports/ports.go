// Package ports finds ports for servers that tests start, and start again.
//
// A port that was free belongs to nobody until the server listens, nor while it is away. On a machine where many connect the kernel would give it to a connection
// meanwhile, which keeps it for a minute after its end. So the ports are none of those that the kernel gives to connections. Free may be called from several
// goroutines.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The kernel gives connections ports from 32768 on if it is not told otherwise.
const lowest, highest = 10240, 19999

var given struct {
	sync.Mutex
	ports map[int]bool
}

// Free returns a port of the loopback on which nobody listens, at random, as tests of several packages look at the same time. It returns each once.
func Free() (int, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	var taken error
	for range 1000 {
		port := lowest + rand.N(highest-lowest+1)
		if given.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			taken = err
			continue
		}
		given.ports[port] = true
		return port, l.Close()
	}
	return 0, fmt.Errorf("no port is free: %w", taken)
}

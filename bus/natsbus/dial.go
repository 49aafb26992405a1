package natsbus

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connectLimit is how long one address is tried: a lost host answers nothing at all, and the next address may be well. silenceLimit is how long what was sent
// may go unacknowledged by the other machine; a process that is slow acknowledges all the same, its kernel does it.
const (
	connectLimit = 5 * time.Second
	silenceLimit = 8 * time.Second
)

// Dialer returns what connections to brokers and enrolment endpoints are made with. It notices a host that was lost without a word soon after the next ping.
func Dialer() *net.Dialer {
	return &net.Dialer{Timeout: connectLimit, Control: func(_, _ string, c syscall.RawConn) error {
		// Where the kernel does not know the option the pings find out, later.
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silenceLimit.Milliseconds()))
		})
	}}
}

// DialFunc is what connects: net.Dialer.DialContext is one.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialing is a DialFunc as the client library takes it. Its connects end by the dialer's own limit.
type dialing DialFunc

// Dial implements nats.CustomDialer.
func (d dialing) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func orDialer(d DialFunc) DialFunc {
	if d == nil {
		return Dialer().DialContext
	}
	return d
}

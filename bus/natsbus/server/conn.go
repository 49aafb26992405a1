package server

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
)

var controllerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Conn returns a new connection of a controller inside the process. Requests and reports need one each: on a shared one a flood of
// reports makes requests late. It never answers to a reply subject, which a guest could have pointed at another guest. The name
// is lower-case letters, digits and dashes; two connections may share it. Close of the server closes it.
func (s *Server) Conn(ctx context.Context, name string) (bus.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return s.connect(name)
}

func (s *Server) connect(name string) (*natsbus.Conn, error) {
	if !controllerName.MatchString(name) {
		return nil, trove.Errorf(trove.KindBadRequest, "%q cannot be the name of a connection.", name)
	}
	name += "-" + trove.NewID() // the inbox is named after it
	c, err := s.inProcess(s.accounts.issueController, name, nats.CustomInboxPrefix(inboxPrefix(name)))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
	return c, nil
}

// inProcess connects with a key that is made here and never leaves.
func (s *Server) inProcess(issue func(name, key string) (string, error), name string, more ...nats.Option) (*natsbus.Conn, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make a key for connection %s: %w", name, err)
	}
	text, err := issue(name, public(pair))
	if err != nil {
		return nil, fmt.Errorf("make an identity for connection %s: %w", name, err)
	}
	return natsbus.Connect("", natsbus.Settings{Log: s.log, NeverReply: true}, append([]nats.Option{
		nats.InProcessServer(s.broker),
		nats.Name(name),
		nats.UserJWT(func() (string, error) { return text, nil }, pair.Sign),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(10 * time.Second), // a machine that has much to do at a start
	}, more...)...)
}

// dropped is how many reports were lost because their handlers in this process were too slow.
func (s *Server) dropped() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.conns {
		n += c.Dropped()
	}
	return float64(n)
}

package machine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// tokens are what the broker knows of the one guest. Each works once.
type tokens struct {
	id string

	mu   sync.Mutex
	left map[string]bool // by hash
	key  string
	used int
}

func (g *tokens) UseEnrolmentToken(_ context.Context, hash, key string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.left[hash] {
		return "", trove.Errorf(trove.KindUnauthorized, "unknown")
	}
	delete(g.left, hash)
	g.key = key
	g.used++
	return g.id, nil
}

func (g *tokens) TokenOwner(_ context.Context, hash string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.left[hash] {
		return "", trove.Errorf(trove.KindNotFound, "unknown")
	}
	return g.id, nil
}

func (g *tokens) GuestKey(context.Context, string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.key, nil
}

func (g *tokens) CredentialIssued(context.Context, string, time.Time, string) error { return nil }

func (g *tokens) make() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	token := trove.NewID()
	g.left[bus.HashToken(trove.Secret(token))] = true
	return token
}

func (g *tokens) uses() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used
}

// control is the controllers' side: a broker that guests find at the address of the emulated network's host.
type control struct {
	t      *testing.T
	tokens *tokens
	broker *server.Server
	conn   bus.Conn

	mu         sync.Mutex
	hellos     []guestapi.Hello
	heartbeats []guestapi.Heartbeat
}

// freePort finds a port that is free for a moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func newControl(t *testing.T) *control {
	t.Helper()
	c := &control{t: t, tokens: &tokens{id: trove.NewID(), left: map[string]bool{}}}
	busPort, enrolPort := freePort(t), freePort(t)
	var err error
	c.broker, err = server.Start(t.Context(), server.Config{
		Keys: keyfile.Dir(t.TempDir()), Listen: "127.0.0.1:" + busPort, EnrolListen: "127.0.0.1:" + enrolPort, Names: []string{controllers},
		Addresses: []string{controllers + ":" + busPort}, EnrolURLs: []string{"https://" + controllers + ":" + enrolPort},
		Repository: server.NewMemoryRepository(), Guests: c.tokens, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.broker.Close() })
	if c.conn, err = c.broker.Conn(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.conn.Subscribe(t.Context(), guestapi.AllReports, guestapi.QueueConductor, c.note); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *control) note(_ context.Context, m bus.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case strings.HasSuffix(m.Subject, ".hello"):
		var h guestapi.Hello
		_ = json.Unmarshal(m.Data, &h) // what is wrong is missed by who waits for it
		c.hellos = append(c.hellos, h)
	case strings.HasSuffix(m.Subject, ".hb"):
		var h guestapi.Heartbeat
		_ = json.Unmarshal(m.Data, &h)
		c.heartbeats = append(c.heartbeats, h)
	}
}

func (c *control) seen() (hellos int, last guestapi.Heartbeat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.heartbeats); n > 0 {
		last = c.heartbeats[n-1]
	}
	return len(c.hellos), last
}

// ask gives a command and decodes its result; an error is one that may be gone a moment later.
func (c *control) ask(cmd guestapi.Command, id string, args, result any) error {
	data, err := json.Marshal(args)
	if err != nil {
		return err
	}
	req, err := json.Marshal(guestapi.Request{V: guestapi.Version, ID: id, Command: cmd, Args: data})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	answer, err := c.conn.Request(ctx, guestapi.CommandSubject(c.tokens.id), req)
	if err != nil {
		return err
	}
	var resp guestapi.Response
	if err := json.Unmarshal(answer, &resp); err != nil {
		return err
	}
	if resp.Error != nil {
		return fmt.Errorf("%s: %+v", cmd, resp.Error)
	}
	return json.Unmarshal(resp.Result, result)
}

// long gives a long command and waits for its good end.
func (c *control) long(v *vm, cmd guestapi.Command, id string, args any) {
	c.t.Helper()
	var s guestapi.OperationStatus
	if err := c.ask(cmd, id, args, &s); err != nil {
		c.t.Fatal(err)
	}
	v.until("the end of "+string(cmd), func() bool {
		err := c.ask(guestapi.CmdStatus, "status", guestapi.StatusArgs{ID: id}, &s)
		return err == nil && s.State != guestapi.StateRunning
	})
	if s.State != guestapi.StateDone {
		c.t.Fatalf("%s ended with %+v: %+v", cmd, s, s.Error)
	}
}

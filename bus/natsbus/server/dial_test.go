package server_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus"
)

// A guest whose way to the controllers is not that of its other connections goes it every time: to enrol, to connect, to try a new credential and to use it.
func TestEveryConnectionOfAGuestIsMadeByItsDialer(t *testing.T) {
	s := start(t)
	var dialled atomic.Int32
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return natsbus.Dialer().DialContext(ctx, network, address)
	}
	instance, dir := trove.NewID(), t.TempDir()
	if err := natsbus.EnrolBy(t.Context(), dial, s.boot(t, instance), dir); err != nil {
		t.Fatal(err)
	}
	if n := dialled.Swap(0); n != 1 {
		t.Errorf("%d connections to enrol were made by the dialer", n)
	}
	g, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{Log: slog.New(slog.DiscardHandler), Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	eventually(t, "the guest to connect", g.Connected)
	if n := dialled.Swap(0); n != 1 {
		t.Errorf("%d connections to the bus were made by the dialer", n)
	}
	s.renew(t, g, dir, instance)
	if n := dialled.Swap(0); n != 2 {
		t.Errorf("%d connections with a new credential were made by the dialer, not one to try it and one to use it", n)
	}
}

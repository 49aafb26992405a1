package natsbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/clock"
)

// cutOff notes that there is no connection.
func (g *GuestConn) cutOff() {
	since := clock.Stopwatch()
	g.down.CompareAndSwap(nil, &since)
}

// unaccepted notes that a broker was reached and did not take the credential: it has expired by the broker's clock, whatever ours says, or the key is no
// longer the instance's, which the enrolment endpoint then says.
func (g *GuestConn) unaccepted(err error) {
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
		g.refused.Store(true)
		g.look()
	}
}

// hungUp reports whether a broker answered and ended the connection before anything was said: it has more handshakes to make than it can. Asking the
// enrolment endpoint, which has the same processors, would make it worse, and it would say what the guest knows already.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// busyFactor is how much longer a broker that hangs up is waited for than one that is not there: it may be something else at its address.
const busyFactor = 10

// patience is for how long there may be no broker before the enrolment endpoint is asked: not the same for all guests of one.
func (g *GuestConn) patience() time.Duration {
	return g.lost + time.Duration(rand.Int64N(g.jitter.Load())) //nolint:gosec // a pause is no secret
}

// AcceptCredential takes in a credential that a controller sent: it connects with it once, so that one that does not work is an error and the old one
// stays, and then keeps it. What it returns connects anew with it, which interrupts for about 2 ms: call it between commands. A credential that
// is not for this guest is KindBadRequest. It may be repeated.
func (g *GuestConn) AcceptCredential(ctx context.Context, c bus.Credential) (use func() error, err error) {
	if err := g.id.check(c); err != nil {
		return nil, fmt.Errorf("accept the credential: %w", err)
	}
	if err := g.try(ctx, c); err != nil {
		return nil, trove.Wrap(trove.KindUnavailable, err, "The guest could not join the bus with the new credential and keeps the old one.")
	}
	if err := g.id.store(c); err != nil {
		return nil, fmt.Errorf("keep the credential: %w", err)
	}
	g.received(c)
	return func() error { return g.reconnect(c) }, nil
}

// try joins the bus with a credential, beside the connection that there is.
func (g *GuestConn) try(ctx context.Context, c bus.Credential) error {
	roots, err := pool(c.CABundle)
	if err != nil {
		return err
	}
	addresses := slices.Clone(c.Addresses)
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] }) //nolint:gosec // an order is no secret
	var last error
	for _, address := range addresses[:min(len(addresses), tryAddresses)] {
		if err := ctx.Err(); err != nil {
			return err
		}
		nc, err := nats.Connect("tls://"+address,
			nats.Name(g.id.Instance), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(tryTimeout),
			nats.SetCustomDialer(dialing(g.id.dial)),
			nats.UserJWT(func() (string, error) { return c.JWT, nil }, g.id.key.Sign),
			nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Time: g.CertificateTime}),
		)
		if err == nil {
			nc.Close()
			return nil
		}
		last = fmt.Errorf("join the bus at %s: %w", address, err)
	}
	return last
}

// ReplaceCredential accepts the credential and uses it; see AcceptCredential.
func (g *GuestConn) ReplaceCredential(ctx context.Context, c bus.Credential) error {
	use, err := g.AcceptCredential(ctx, c)
	if err != nil {
		return err
	}
	return use()
}

func (g *GuestConn) reconnect(c bus.Credential) error {
	if err := g.trust(c); err != nil {
		return err
	}
	if err := g.nc.SetServerPool(urls(c.Addresses)); err != nil {
		return fmt.Errorf("use the addresses of the bus: %w", translate(err))
	}
	g.now.Store(true)
	if err := g.nc.ForceReconnect(); err != nil {
		return fmt.Errorf("connect anew: %w", translate(err))
	}
	g.look()
	return nil
}

// trust takes over what a credential says besides the identity: whom to believe and how long to wait.
func (g *GuestConn) trust(c bus.Credential) error {
	roots, err := pool(c.CABundle)
	if err != nil {
		return err
	}
	g.roots.Store(roots)
	if issued := issuedAt(c); !issued.IsZero() {
		g.issued.Store(issued.Unix())
	}
	if c.ReconnectJitter > 0 {
		g.SetJitter(c.ReconnectJitter)
	}
	return nil
}

// received notes how far the clock of this machine is off: the credential was issued just now.
func (g *GuestConn) received(c bus.Credential) {
	if issued := issuedAt(c); !issued.IsZero() {
		g.issued.Store(issued.Unix())
		g.skew.Store(int64(clockSkew(g.clock.Now(), issued)))
	}
}

func clockSkew(now, issued time.Time) time.Duration {
	skew := now.Sub(issued)
	if skew.Abs() < badClock {
		return 0
	}
	return skew
}

// CertificateTime is the time that the certificates of controllers are checked against: that of the machine's clock, unless it is certain that a later one has come.
func (g *GuestConn) CertificateTime() time.Time {
	return certificateTime(time.Unix(g.issued.Load(), 0))
}

// look makes keepCredential look again.
func (g *GuestConn) look() {
	select {
	case g.renews <- struct{}{}:
	default:
	}
}

// keepCredential renews over HTTPS when three quarters of the credential's life are over: controllers renew at half of it over the bus, so
// this is for guests that they did not reach, those that were asleep among them. It does so too when a broker does not accept the credential, and when no
// broker can be reached: the addresses may have changed meanwhile.
func (g *GuestConn) keepCredential(ctx context.Context) {
	failures, refusals := 0, 0
	for lost := g.patience(); ; {
		if g.down.Load() == nil {
			lost, refusals = g.patience(), 0
		}
		wait, why := g.untilRenewal(lost)
		if wait <= 0 {
			wait = time.Second // also after a success: a clock that is wrong must not make this a storm
			if err := g.renew(ctx, why); err == nil {
				failures = 0
				switch why {
				case "lost": // the addresses may be the same: not again so soon
					g.down.Store(nil)
					g.cutOff()
					lost = min(2*lost, max(lost, 10*time.Minute))
				case "refused": // as may be what the brokers do not accept
					wait = renewalPause(refusals, false)
					refusals++
				}
			} else if ctx.Err() == nil {
				failures++
				g.log.Warn("guest could not renew its credential", "guest", g.id.Instance, "err", err)
				wait = renewalPause(failures, trove.IsPermanent(err))
			}
			if clock.Sleep(ctx, wait) != nil {
				return
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-g.renews:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// renew gets a new credential over HTTPS and connects with it at once, unless it was for the addresses and those are the same: then there are others who
// wait for the broker, and the next attempt has its time.
func (g *GuestConn) renew(ctx context.Context, why string) error {
	before, _ := g.id.credential() // what cannot be read is different
	c, err := g.id.renew(ctx)
	if err != nil {
		return err
	}
	g.received(c)
	g.refused.Store(false)
	g.log.Info("guest renewed its credential", "guest", g.id.Instance, "expires", c.Expires)
	if why == "lost" && c.CABundle == before.CABundle && slices.Equal(c.Addresses, before.Addresses) {
		return g.trust(c)
	}
	return g.reconnect(c)
}

// renewalPause grows to a minute; a refusal may be lifted (an instance that is restored), but not soon.
func renewalPause(failures int, refused bool) time.Duration {
	pause := min(time.Second<<min(failures, 6), time.Minute)
	if refused {
		pause = time.Minute
	}
	return pause/2 + rand.N(pause) //nolint:gosec // a pause is no secret
}

// untilRenewal is at most a minute, so that a machine that slept looks soon after it woke. It says why where it is over.
func (g *GuestConn) untilRenewal(lost time.Duration) (wait time.Duration, why string) {
	c, err := g.id.credential()
	if err != nil {
		return 0, "unreadable"
	}
	issued, expires, err := lifetime(c)
	if err != nil {
		return 0, "unreadable"
	}
	if g.refused.Load() {
		return 0, "refused"
	}
	wait = min(dueIn(issued, expires, g.clock.Now(), time.Duration(g.skew.Load())), time.Minute)
	if wait <= 0 {
		return 0, "old"
	}
	if down := g.down.Load(); down != nil {
		if g.busy.Load() {
			lost *= busyFactor
		}
		if left := lost - (*down)(); left < wait {
			return left, "lost"
		}
	}
	return wait, ""
}

// dueIn returns in how long a credential is renewed by the guest itself: when a quarter of its life is left by the controller's clock, from which
// this machine's differs by skew.
func dueIn(issued, expires, now time.Time, skew time.Duration) time.Duration {
	due := expires.Add(-expires.Sub(issued) / 4)
	return due.Sub(now.Add(-skew))
}

package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// The CA is replaced in phases, each of which is one replacement of what is kept of it: announced, switched, stable again. Brokers read it with
// the next handshake. Whoever dies in between leaves one phase or the next, and any broker goes on from there.

// CAInfo is what an operator sees of a CA.
type CAInfo struct {
	Fingerprint string
	Signs       bool
	Made        time.Time
	Expires     time.Time
}

// CAStatus is how far the replacement of the CA has come.
type CAStatus struct {
	Phase CAPhase
	CAs   []CAInfo // those that guests are told, the one that signs first
	// Bundle is what guests are told, PEM.
	Bundle string
	// Sleepers says that a guest that knows the CA that goes and nothing else will still believe brokers after the change.
	Sleepers bool
}

// ReadCA returns the status from the deployment's keys, whether a broker runs or not.
func ReadCA(kept keyfile.Keeper) (CAStatus, error) {
	s, err := readState(kept)
	if err != nil {
		return CAStatus{}, err
	}
	return s.status(), nil
}

func (s *authorityState) status() CAStatus {
	st := CAStatus{Phase: s.phase(), Bundle: s.bundle(), Sleepers: canCross(s.cert)}
	if s.old != nil {
		st.Sleepers = canCross(s.old)
	}
	for _, c := range s.told() {
		info := CAInfo{Fingerprint: fingerprint(c), Signs: c == s.cert, Made: c.NotBefore.Add(day), Expires: c.NotAfter}
		if info.Signs {
			st.CAs = slices.Insert(st.CAs, 0, info)
		} else {
			st.CAs = append(st.CAs, info)
		}
	}
	return st
}

func readState(kept keyfile.Keeper) (*authorityState, error) {
	data, _, err := kept.Load(authorityName)
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the bus: %w", err)
	}
	s, err := decodeState(data)
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the bus: %w", trove.Permanent(err))
	}
	return s, nil
}

// changeCA replaces the CA if it is in the phase. It reports whether it was.
func changeCA(ctx context.Context, kept keyfile.Keeper, from CAPhase, change func(*authorityState) (*authorityState, error)) (bool, error) {
	done := false
	err := kept.Replace(ctx, authorityName, func(data []byte) ([]byte, error) {
		done = false
		s, err := decodeState(data)
		if err != nil || s.phase() != from {
			return data, err
		}
		if s, err = change(s); err != nil {
			return nil, err
		}
		done = true
		return s.encode()
	})
	if err != nil {
		return false, fmt.Errorf("certificate authority of the bus: %w", err)
	}
	return done, nil
}

// BeginCARoll makes the next CA, which guests are told from now on, and has the present one sign it. It reports whether it began: a roll that is under
// way goes on. Life is how long the next CA lives; 0: DefaultCALife.
func BeginCARoll(ctx context.Context, kept keyfile.Keeper, c clock.Clock, life time.Duration) (began bool, err error) {
	if life == 0 {
		life = DefaultCALife
	}
	return changeCA(ctx, kept, CAStable, func(s *authorityState) (*authorityState, error) {
		next, key, err := makeCA(c.Now(), life)
		if err != nil {
			return nil, err
		}
		n := &authorityState{cert: s.cert, key: s.key, next: next, nextBy: key, cross: s.cross}
		return n, nil
	})
}

// ContinueCARoll takes a roll one phase further, whoever has not heard of the one before, and returns the phase that it is in then. Without a
// roll it does nothing.
func ContinueCARoll(ctx context.Context, kept keyfile.Keeper, c clock.Clock) (CAPhase, error) {
	s, err := readState(kept)
	if err != nil {
		return "", err
	}
	switch s.phase() {
	case CAAnnounced:
		_, err = switchCA(ctx, kept, c)
		return CASwitched, err
	case CASwitched:
		_, err = finishCARoll(ctx, kept, c)
		return CAStable, err
	}
	return CAStable, nil
}

// switchCA lets the next CA sign. The key of the one before is gone with it; its last signature is for the next one.
func switchCA(ctx context.Context, kept keyfile.Keeper, c clock.Clock) (bool, error) {
	return changeCA(ctx, kept, CAAnnounced, func(s *authorityState) (*authorityState, error) {
		n := &authorityState{cert: s.next, key: s.nextBy, old: s.cert, cross: unexpired(s, c.Now())}
		if canCross(s.cert) {
			cross, err := crossSign(s.next, s.cert, s.key)
			if err != nil {
				return nil, err
			}
			n.cross = append(n.cross, cross)
		}
		return n, nil
	})
}

// finishCARoll stops telling guests of the CA that went. Its signature for the present one is shown to them until it expires.
func finishCARoll(ctx context.Context, kept keyfile.Keeper, c clock.Clock) (bool, error) {
	return changeCA(ctx, kept, CASwitched, func(s *authorityState) (*authorityState, error) {
		return &authorityState{cert: s.cert, key: s.key, cross: unexpired(s, c.Now())}, nil
	})
}

func unexpired(s *authorityState, now time.Time) (rest []*x509.Certificate) {
	for _, c := range s.cross {
		if now.Before(c.NotAfter) {
			rest = append(rest, c)
		}
	}
	return rest
}

// GuestTrust is what the guest of a living instance was told last.
type GuestTrust struct {
	InstanceID string
	Trust      string    // see bus.Credential.Trust; "": not known
	SeenAt     time.Time // when it was heard of last
}

// silent is how long a guest is not heard of before a roll does not wait for it with the change of who signs.
const silent = 35 * time.Second

// Waiting returns the guests that a roll waits for in the phase: those that are heard of before the next CA signs, all before the old one is dropped.
// Trust is what they shall have been told.
func (s CAStatus) Waiting(guests []GuestTrust, trust string, now time.Time) []string {
	var wait []string
	for _, g := range guests {
		asleep := now.Sub(g.SeenAt).Abs() > silent
		if g.Trust == trust || s.Phase == CAStable || s.Phase == CAAnnounced && asleep && s.Sleepers {
			continue
		}
		wait = append(wait, g.InstanceID)
	}
	slices.Sort(wait)
	return wait
}

const (
	rollLook     = time.Second // between looks at a roll
	rollLookMany = 15 * time.Second
	manyGuests   = 1000
)

// keepCA begins a roll when it is time and takes it further, until ctx ends.
func (s *Server) keepCA(ctx context.Context) {
	phase, told, pause := s.authority.current().phase(), "", rollLook
	for clock.Sleep(ctx, pause) == nil {
		callCtx, cancel := context.WithTimeout(ctx, askTimeout)
		waiting, asked, err := s.rollOnce(callCtx)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "replacement of the bus's CA did not go on", "err", err)
		}
		pause = rollLook
		if asked > manyGuests {
			pause = rollLookMany
		}
		now := s.authority.current().phase()
		text := fmt.Sprint(now, len(waiting))
		if text != told && (now != CAStable || phase != CAStable) {
			s.log.InfoContext(ctx, "the bus's CA is being replaced", "phase", string(now), "waiting", len(waiting), "first", strings.Join(waiting[:min(3, len(waiting))], " "))
		}
		phase, told = now, text
	}
}

// rollOnce looks once, and takes at most one step.
func (s *Server) rollOnce(ctx context.Context) (waiting []string, guests int, err error) {
	state := s.authority.current()
	now := s.cfg.Clock.Now()
	if state.phase() == CAStable {
		if caDue(state.cert, now) {
			began, err := BeginCARoll(ctx, s.cfg.Keys, s.cfg.Clock, s.cfg.CALife)
			if began {
				s.log.InfoContext(ctx, "a quarter of the life of the bus's CA is left: it is being replaced", "expires", state.cert.NotAfter)
			}
			return nil, 0, err
		}
		return nil, 0, nil
	}
	all, err := s.cfg.Repository.GuestTrusts(ctx)
	if err != nil {
		return nil, 0, err
	}
	waiting = state.status().Waiting(all, s.trustOf(state), now)
	if len(waiting) > 0 {
		return waiting, len(all), nil
	}
	if state.phase() == CAAnnounced {
		_, err = switchCA(ctx, s.cfg.Keys, s.cfg.Clock)
	} else {
		_, err = finishCARoll(ctx, s.cfg.Keys, s.cfg.Clock)
	}
	return nil, len(all), err
}

// Trust implements bus.Announcer.
func (s *Server) Trust() string { return s.trustOf(s.authority.current()) }

func (s *Server) trustOf(state *authorityState) string {
	t := s.told.Load()
	return bus.TrustOf(t.addresses, t.enrolURLs, state.bundle())
}

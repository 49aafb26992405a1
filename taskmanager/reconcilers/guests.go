package reconcilers

import (
	"context"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// pingTimeout bounds the question to a silent guest.
const pingTimeout = 2 * time.Second

// Silence notes guests that are not heard of although their machine should run. It only asks and writes it down: a guest that is cut
// off may serve its clients well, and a restart would not. Machines that do not run are the business of Machines. Nothing is noted before the
// guests have had the time to be heard: after a pause of the control plane nobody was.
type Silence struct {
	cfg   Config
	began time.Time

	mu    sync.Mutex
	since map[string]time.Time // when the silence was noted
}

func newSilence(c Config) *Silence {
	return &Silence{cfg: c, began: c.Clock.Now(), since: map[string]time.Time{}}
}

func (s *Silence) concerns(i *trove.Instance, now time.Time) bool {
	s.mu.Lock()
	_, noted := s.since[i.ID]
	s.mu.Unlock()
	return noted || shouldRun(i) && i.ServerStatus == trove.ServerActive && i.Silent(now) && now.Sub(s.began) > trove.HeartbeatExpiry
}

// ReconcileOne notes the beginning and the end of a silence, once each.
func (s *Silence) ReconcileOne(ctx context.Context, id string) error {
	i, err := s.cfg.Store.Instance(ctx, id)
	if trove.IsNotFound(err) {
		s.end(id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", id, err)
	}
	if !shouldRun(&i) || !i.Silent(s.cfg.Clock.Now()) {
		if since, was := s.end(id); was && !i.Stopped() {
			s.cfg.Log.InfoContext(ctx, "guest was heard of again", "instance", id, "took", s.cfg.Clock.Now().Sub(since))
			return say(ctx, s.cfg, id, trove.EventGuestBack, "The guest is heard of again.")
		}
		return nil
	}
	if !s.begin(id) {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err = s.cfg.Guests.Ping(asking, id)
	s.cfg.Log.WarnContext(ctx, "guest was silent", "instance", id, "seen", i.Guest.SeenAt, "answers", err == nil, "err", err)
	sentence := "The guest has not been heard of since " + i.Guest.SeenAt.UTC().Format(time.RFC3339) + ", and does not answer. The database may serve its clients all the same."
	if err == nil {
		sentence = "The guest answers, but its reports do not arrive."
	}
	return say(ctx, s.cfg, id, trove.EventGuestSilent, sentence)
}

func (s *Silence) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, noted := s.since[id]; noted {
		return false
	}
	s.since[id] = s.cfg.Clock.Now()
	return true
}

func (s *Silence) end(id string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, noted := s.since[id]
	delete(s.since, id)
	return since, noted
}

package server

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// ControllerRow is a broker of the deployment as the others and the guests find it.
type ControllerRow struct {
	ID       string
	RouteURL string   // where other brokers connect; "": it has no routes
	Clients  []string // host:port of the bus, as guests are told
	Enrol    []string // https URLs of the enrolment endpoint
	SeenAt   time.Time

	Objects    []string      // https URLs of the object gateway beside it
	Control    string        // host:port where controllers of other hosts reach the bus
	Host       string        // the name of the machine
	ClockAhead time.Duration // how far its clock is ahead of the database's
}

// Present says whether the broker was heard of lately: one that is not may be about to come back.
func (r ControllerRow) Present(now time.Time) bool { return now.Sub(r.SeenAt) <= 5*controllerPut/2 }

// ControllerGone is how long a broker may be away before guests are not told of it any more. A restart must not change what they are told.
const ControllerGone = time.Hour

// controllerLook is how often a broker looks for others, controllerPut how often it says that it is there: a write that the disk has to confirm.
const (
	controllerLook = 5 * time.Second
	controllerPut  = time.Minute
)

// told is what guests are told of where the bus is: this broker first, then the others.
type told struct {
	addresses []string
	enrolURLs []string
}

// Told returns what guests are told while these brokers are there: the one with the id first.
func Told(rows []ControllerRow, id string, now time.Time) (addresses, enrolURLs []string) {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b ControllerRow) int {
		if a.ID == id || b.ID == id {
			return strings.Compare(firstIf(a.ID, id), firstIf(b.ID, id))
		}
		return strings.Compare(a.ID, b.ID)
	})
	for _, r := range rows {
		if r.ID != id && now.Sub(r.SeenAt) > ControllerGone {
			continue
		}
		addresses, enrolURLs = appendNew(addresses, r.Clients), appendNew(enrolURLs, r.Enrol)
	}
	return addresses, enrolURLs
}

func firstIf(is, id string) string {
	if is == id {
		return ""
	}
	return is
}

func appendNew(list, more []string) []string {
	for _, m := range more {
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// own is this broker's row.
func (s *Server) own() ControllerRow {
	r := ControllerRow{
		ID: s.cfg.ID, RouteURL: s.routeURL, Clients: s.addresses, Enrol: s.enrolURLs, SeenAt: s.cfg.Clock.Now(),
		Objects: s.cfg.Objects, Control: s.cfg.ControlListen, Host: s.cfg.Host, ClockAhead: s.cfg.ClockAhead(),
	}
	if r.Control == "" && len(r.Clients) > 0 {
		r.Control = r.Clients[0]
	}
	return r
}

// clockNews is by how much a clock must have moved before it is told at once.
const clockNews = 500 * time.Millisecond

// announce writes this broker's row now and then, and takes over the others.
func (s *Server) announce(ctx context.Context) error {
	own, last := s.own(), s.announced
	if own.SeenAt.Sub(last.SeenAt).Abs() >= controllerPut || (own.ClockAhead-last.ClockAhead).Abs() >= clockNews {
		if err := s.cfg.Repository.PutController(ctx, own); err != nil {
			return err
		}
		s.announced = own
	}
	rows, err := s.cfg.Repository.Controllers(ctx)
	if err != nil {
		return err
	}
	s.tell(rows)
	return nil
}

func (s *Server) tell(rows []ControllerRow) {
	own := s.own()
	rows = slices.DeleteFunc(slices.Clone(rows), func(r ControllerRow) bool { return r.ID == own.ID })
	t := &told{}
	t.addresses, t.enrolURLs = Told(append(rows, own), own.ID, own.SeenAt)
	s.told.Store(t)
}

func (s *Server) watchControllers(ctx context.Context) {
	for clock.Sleep(ctx, controllerLook) == nil {
		callCtx, cancel := context.WithTimeout(ctx, askTimeout)
		err := s.announce(callCtx)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "other brokers could not be looked up", "err", err)
		}
	}
}

// routes returns where the other brokers are.
func otherRoutes(rows []ControllerRow, id string, now time.Time) []string {
	var urls []string
	for _, r := range rows {
		if r.ID != id && r.RouteURL != "" && now.Sub(r.SeenAt) <= ControllerGone {
			urls = append(urls, r.RouteURL)
		}
	}
	return urls
}

package guestagent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestapi"
)

// publishTimeout bounds one report: a later one says the same.
const publishTimeout = 5 * time.Second

// resend is when an end is sent next.
type resend struct {
	at    time.Time
	pause time.Duration
}

// report is the one goroutine that sends heartbeats and ends.
func (a *Agent) report(ctx context.Context, conn bus.Conn) {
	beat := time.NewTicker(a.times.Heartbeat)
	defer beat.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	var latest guestapi.OperationStatus // progress that waits
	soon := time.NewTimer(time.Hour)
	soon.Stop()
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.connected:
			a.hello(ctx, conn)
			clear(a.sends) // what was sent into the outage is sent again
			again.Reset(0)
		case <-a.supervisor.Changed():
			a.heartbeat(ctx, conn)
		case <-beat.C:
			a.heartbeat(ctx, conn)
		case p := <-a.progress:
			if a.times.Progress < 0 {
				a.publish(ctx, conn, guestapi.ReportProgress, p)
				continue
			}
			if latest.ID == "" {
				soon.Reset(a.times.Progress)
			}
			latest = p
		case <-soon.C:
			// The end says more.
			if s, _ := a.journal.Status(latest.ID); s.State == guestapi.StateRunning {
				a.publish(ctx, conn, guestapi.ReportProgress, latest)
			}
			latest = guestapi.OperationStatus{}
		case <-a.ends:
			again.Reset(0)
		case <-again.C:
			if d := a.sendEnds(ctx, conn); d > 0 {
				again.Reset(d)
			}
		}
	}
}

func (a *Agent) hello(ctx context.Context, conn bus.Conn) {
	if a.publish(ctx, conn, guestapi.ReportHello, a.whoIsThis()) {
		a.greeted.Store(true)
		a.log.InfoContext(ctx, "hello was said")
	}
	a.heartbeat(ctx, conn)
}

func (a *Agent) whoIsThis() guestapi.Hello {
	return guestapi.Hello{
		BootID: a.cfg.BootID, AgentVersion: a.cfg.Version, Protocol: guestapi.Version,
		Engine: a.cfg.Engine.Info().Manager, Commands: a.commands(), Prepared: a.supervisor.Prepared(),
		AgentStart: a.began, TakenBack: a.takenBack(),
	}
}

func (a *Agent) heartbeat(ctx context.Context, conn bus.Conn) {
	service := a.supervisor.Service()
	a.seq++
	h := guestapi.Heartbeat{
		BootID: a.cfg.BootID, Seq: a.seq, Service: service.Status, AgentVersion: a.cfg.Version, AgentStart: a.began,
		TakenBack: a.takenBack(),
	}
	h.Event, h.EventAt, h.EventKind = a.supervisor.Event()
	if !service.Start.IsZero() {
		h.EngineStart = service.Start.UnixMicro()
	}
	usage, err := volumeUsage(a.cfg.Layout.Data)
	if err != nil {
		a.log.WarnContext(ctx, "volume usage was not to be had", "err", err)
	}
	h.VolumeUsed, h.VolumeTotal = usage.Used, usage.Total
	if err := a.ballast.Refill(); err != nil {
		a.log.WarnContext(ctx, "ballast was not filled", "err", err)
	}
	if a.publish(ctx, conn, guestapi.ReportHeartbeat, h) && h.Event != "" {
		if a.supervisor.Sent(h.EventAt) {
			a.heartbeat(ctx, conn) // at most maxEvents deep
		}
	}
}

// sendEnds sends the ends that are due and returns when the next one is, 0 if none is open.
func (a *Agent) sendEnds(ctx context.Context, conn bus.Conn) time.Duration {
	now := a.cfg.Clock.Now()
	open := a.journal.UnknownEnds()
	seen := make(map[string]*resend, len(open))
	var next time.Duration
	for _, end := range open {
		r := a.sends[end.ID]
		if r == nil {
			// The status that the end is about comes first.
			a.heartbeat(ctx, conn)
			r = &resend{pause: a.times.ResendMin / 2, at: now}
		}
		seen[end.ID] = r
		if !r.at.After(now) {
			a.publish(ctx, conn, guestapi.ReportEnd, end)
			r.pause = min(2*r.pause, a.times.ResendMax)
			r.at = now.Add(r.pause)
		}
		if d := max(r.at.Sub(now), time.Millisecond); next == 0 || d < next {
			next = d
		}
	}
	a.sends = seen
	return next
}

// publish sends a report and says whether the connection took it. A report that is lost is made up for by the next one of its kind.
func (a *Agent) publish(ctx context.Context, conn bus.Conn, kind guestapi.ReportKind, body any) bool {
	data, err := json.Marshal(body)
	if err == nil {
		data = skewReport(data)
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		err = conn.Publish(ctx, guestapi.ReportSubject(a.cfg.Instance, kind), data)
	}
	// One line for an outage, not one for each heartbeat of it.
	if err != nil && ctx.Err() == nil && !a.cutOff {
		a.log.WarnContext(ctx, "report was not sent", "kind", string(kind), "err", err)
	}
	a.cutOff = err != nil
	return err == nil
}

func volumeUsage(path string) (guestapi.VolumeUsage, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return guestapi.VolumeUsage{}, fmt.Errorf("ask how full %s is: %w", path, err)
	}
	block := s.Bsize
	return guestapi.VolumeUsage{Used: int64(s.Blocks-s.Bfree) * block, Total: int64(s.Blocks) * block}, nil
}

func bootID(kernel string) (string, error) {
	first, err := process.Find(1)
	if err != nil {
		return "", fmt.Errorf("look up the first process: %w", err)
	}
	return fmt.Sprintf("%s-%d", strings.TrimSpace(kernel), first.Start), nil
}

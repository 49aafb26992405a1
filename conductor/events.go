package conductor

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/store"
)

// countedWithin is how long the same happening is counted in one line of the timeline: a guest that crashes all the time, or that lies, makes one line
// of each kind in that time and nothing more.
const countedWithin = 10 * time.Minute

// statusSentences say for people what a database's status means. Those that are missing say their name.
var statusSentences = map[trove.ServiceStatus]string{
	trove.ServiceBuilding:   "The database is being set up.",
	trove.ServiceRunning:    "The database is starting.",
	trove.ServiceHealthy:    "The database is up and answers.",
	trove.ServiceBlocked:    "The database runs and does not answer.",
	trove.ServiceCrashed:    "The database is down: it ended by itself and is being started again.",
	trove.ServiceShutdown:   "The database is down.",
	trove.ServiceRestarting: "The database is being restarted.",
}

// happened is something that a guest said of itself in a heartbeat.
type happened struct {
	instance string
	at       time.Time
	name     int64 // of the event; the guest sends each several times
	text     string
	kind     string // "": the engine failed
}

// recordBeat writes a heartbeat that says something new, and what has changed by it into the instance's timeline.
func (d *Conductor) recordBeat(ctx context.Context, tx store.Tx, r store.GuestReport, takenBack string) error {
	before, err := tx.Instance(ctx, r.InstanceID)
	if trove.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = tx.RecordReports(ctx, []store.GuestReport{r})
	}
	if err != nil {
		return err //nolint:wrapcheck // commit wraps
	}
	after, err := tx.Instance(ctx, r.InstanceID)
	if err != nil {
		return err //nolint:wrapcheck // commit wraps
	}
	return d.changes(ctx, tx, change{r.InstanceID, r.SeenAt, before.Guest, after.Guest, takenBack})
}

// change is two states of a guest, one after the other.
type change struct {
	instance      string
	at            time.Time
	before, after trove.GuestState
	takenBack     string // version of the agent that the guest says was taken back
}

// agentChanged tells an upgrade from a release that was taken back and from a downgrade that nobody asked for: an old agent may have a fault that somebody
// wants back. The guest itself refuses downgrades; what comes here got around that.
func (d *Conductor) agentChanged(ctx context.Context, c change) (kind, sentence string) {
	was, is := c.before.AgentVersion, c.after.AgentVersion
	if !agentrelease.VersionOf(is).Less(agentrelease.VersionOf(was)) {
		return trove.EventAgentChanged, fmt.Sprintf("The guest agent is version %s now, it was %s.", is, was)
	}
	if c.takenBack == was {
		d.cfg.Log.WarnContext(ctx, "guest went back to an older agent", "instance", c.instance, "agent", is, "was", was)
		return trove.EventAgentTakenBack, fmt.Sprintf("The guest agent is version %s again: version %s was not well and was taken back.", is, was)
	}
	d.metrics.lower.Inc()
	d.cfg.Log.ErrorContext(ctx, "guest runs an older agent than before, which nobody asked for", "instance", c.instance, "agent", is, "was", was)
	return trove.EventAgentDowngraded, fmt.Sprintf(
		"The guest agent is version %s now, older than %s before, and no upgrade was taken back: somebody in the guest may have changed it.", is, was)
}

// changes writes what differs between two states of a guest into the instance's timeline. A guest that is heard of for the first time did not change.
func (d *Conductor) changes(ctx context.Context, tx store.Tx, c change) error {
	before, after := c.before, c.after
	if before.SeenAt.IsZero() {
		return nil
	}
	var list []trove.InstanceEvent
	add := func(kind, format string, args ...any) {
		list = append(list, trove.InstanceEvent{InstanceID: c.instance, At: c.at, Kind: kind, Sentence: fmt.Sprintf(format, args...)})
	}
	booted := before.BootID != after.BootID
	if booted {
		add(trove.EventMachineStarted, "The machine started again.")
	}
	switch {
	case before.AgentVersion != after.AgentVersion:
		kind, sentence := d.agentChanged(ctx, c)
		add(kind, "%s", sentence)
	case !booted && before.AgentStart != 0 && before.AgentStart != after.AgentStart:
		add(trove.EventAgentRestarted, "The guest agent started again.")
	}
	if before.Service != after.Service {
		sentence, ok := statusSentences[after.Service]
		if !ok {
			sentence = fmt.Sprintf("The database's status is %q.", string(after.Service))
		}
		add(trove.EventDatabase+strings.ReplaceAll(string(after.Service), " ", "_"), "%s", sentence)
	}
	for _, e := range list {
		if err := tx.CountInstanceEvent(ctx, e, countedWithin); err != nil {
			return err //nolint:wrapcheck // commit wraps
		}
	}
	return nil
}

// event writes what a guest said that happened, once. The first line of its text is the sentence, the others are evidence.
func (d *Conductor) event(ctx context.Context, tx store.Tx, h happened) error {
	i, err := tx.Instance(ctx, h.instance)
	if trove.IsNotFound(err) || err == nil && h.name != 0 && i.Guest.EventAt == h.name {
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // commit wraps
	}
	if h.name != 0 {
		if err := tx.SetGuestEvent(ctx, h.instance, h.name); err != nil {
			return err //nolint:wrapcheck // commit wraps
		}
	}
	sentence, details, _ := strings.Cut(h.text, "\n")
	if details != "" {
		sentence = strings.TrimSuffix(sentence, " Its log ends with:")
	}
	d.cfg.Log.InfoContext(ctx, "guest reported an event", "instance", h.instance, "event", h.text)
	return tx.CountInstanceEvent(ctx, trove.InstanceEvent{
		InstanceID: h.instance, At: h.at, Kind: cmp.Or(h.kind, trove.EventEngineFailed), Sentence: sentence, Details: details,
	}, countedWithin)
}

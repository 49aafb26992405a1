package conductor

import (
	"context"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
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
}

// recordBeat writes a heartbeat that says something new, and what has changed by it into the instance's timeline.
func (d *Conductor) recordBeat(ctx context.Context, tx store.Tx, r store.GuestReport) error {
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
	return d.changes(ctx, tx, r.InstanceID, r.SeenAt, before.Guest, after.Guest)
}

// changes writes what differs between two states of a guest into the instance's timeline. A guest that is heard of for the first time did not change.
func (d *Conductor) changes(ctx context.Context, tx store.Tx, instance string, at time.Time, before, after trove.GuestState) error {
	if before.SeenAt.IsZero() {
		return nil
	}
	var list []trove.InstanceEvent
	add := func(kind, format string, args ...any) {
		list = append(list, trove.InstanceEvent{InstanceID: instance, At: at, Kind: kind, Sentence: fmt.Sprintf(format, args...)})
	}
	booted := before.BootID != after.BootID
	if booted {
		add(trove.EventMachineStarted, "The machine started again.")
	}
	switch {
	case before.AgentVersion != after.AgentVersion:
		add(trove.EventAgentChanged, "The guest agent is version %s now, it was %s.", after.AgentVersion, before.AgentVersion)
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
		InstanceID: h.instance, At: h.at, Kind: trove.EventEngineFailed, Sentence: sentence, Details: details,
	}, countedWithin)
}

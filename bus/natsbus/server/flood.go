package server

import (
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// A flood is cut at once: within the seconds of patience that a guest over its rate has, one connection sends millions of messages, and those of its neighbours
// wait behind them. What all connections sent together is cheap to ask for; only when it has grown too much they are looked at one by one.
const (
	floodLook   = 200 * time.Millisecond
	floodFactor = 50 // times its rate, and a guest gets no patience
)

// floods reports whether a guest sent so much that it gets no patience.
func (l Limits) floods(messages, bytes int64, elapsed time.Duration) bool {
	seconds := max(elapsed, time.Second).Seconds() // a burst after a pause is no flood
	return float64(messages) > floodFactor*float64(l.Messages)*seconds || float64(bytes) > floodFactor*float64(l.Bytes)*seconds
}

// floodWatch compares what all connections sent with the last look.
type floodWatch struct {
	messages, bytes int64
	at              time.Time
}

// grown reports whether so much has come in since the last look that one connection may have flooded: more than its share beside a message and a KiB a second
// of each of the others.
func (f *floodWatch) grown(broker *natsserver.Server, now time.Time, limits Limits) bool {
	v, err := broker.Varz(nil)
	if err != nil {
		return false
	}
	messages, bytes, elapsed := v.InMsgs-f.messages, v.InBytes-f.bytes, now.Sub(f.at)
	first := f.at.IsZero()
	f.messages, f.bytes, f.at = v.InMsgs, v.InBytes, now
	if first || elapsed <= 0 {
		return false
	}
	others := float64(v.Connections)
	return float64(messages) > (floodFactor*float64(limits.Messages)+others)*elapsed.Seconds() ||
		float64(bytes) > (floodFactor*float64(limits.Bytes)+1024*others)*elapsed.Seconds()
}

package server

import (
	"regexp"
	"strconv"
	"strings"
)

// refusals are the reasons for which the broker refuses what a client does, by what its own log line about it says.
var refusals = []struct{ says, reason string }{
	{"Publish Violation", "publish"},
	{"Subscription Violation", "subscribe"},
	{"maximum subscriptions exceeded", "subscriptions"},
	{"maximum payload exceeded", "payload"},
	{"authentication error", "identity"},
	{"TLS handshake error", "tls"},
}

// refusal returns the reason if the broker's message is about something that it refused, "" if it is not.
func refusal(text string) string {
	for _, r := range refusals {
		if strings.Contains(text, r.says) {
			return r.reason
		}
	}
	return ""
}

// clientID is how the broker names the connection in its messages.
var clientID = regexp.MustCompile(` - cid:(\d+)`)

// instanceIn returns the instance whose guest a message is about, "" if it is none that the guard knows.
func (g *guard) instanceIn(text string) string {
	found := clientID.FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	id, err := strconv.ParseUint(found[1], 10, 64)
	if err != nil {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.byID[g.local(id)]; ok {
		return c.instance
	}
	return ""
}

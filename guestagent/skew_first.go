//go:build skew_first

package guestagent

import (
	"encoding/json"
	"slices"

	"github.com/trove-dbaas/trove/guestapi"
)

// An agent of the first release: it has that one's commands, and its reports that one's fields.

func skewCommands(all []guestapi.Command) []guestapi.Command {
	return slices.DeleteFunc(all, func(c guestapi.Command) bool { return !guestapi.First(c) })
}

func skewKnows(c guestapi.Command) bool { return guestapi.First(c) }

// later are the fields that reports got after the first release.
var later = []string{"agent_start", "event_at", "event_kind", "taken_back"}

func skewReport(data []byte) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return data
	}
	for _, name := range later {
		delete(fields, name)
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return data
	}
	return out
}

func skewAnswer(data []byte) []byte { return data }

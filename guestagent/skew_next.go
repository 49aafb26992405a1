//go:build skew_next

package guestagent

import (
	"encoding/json"

	"github.com/trove-dbaas/trove/guestapi"
)

// An agent of a later release: it lists a command that nobody here knows, and whatever it says has fields that nobody here knows.

func skewCommands(all []guestapi.Command) []guestapi.Command { return append(all, "foretell") }

func skewKnows(guestapi.Command) bool { return true }

func skewReport(data []byte) []byte { return more(data) }

func skewAnswer(data []byte) []byte { return more(data) }

func more(data []byte) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return data
	}
	fields["foretold"] = json.RawMessage(`{"weather":["rain",1e99,null],"v":2}`)
	out, err := json.Marshal(fields)
	if err != nil {
		return data
	}
	return out
}

package sqlstore

import "time"

// WantedLibc is the version that the check at the start compares with.
const WantedLibc = wantedLibc

// DropAnswers and VersionUses are statements that look for something.
const DropAnswers = dropAnswers

func VersionUses() []string {
	var all []string
	for _, use := range versionUses {
		all = append(all, use.query)
	}
	return all
}

// Rebind shows the text that a database with numbered placeholders gets.
func Rebind(query string) string { return (&dialect{numbered: true}).rebind(query) }

// ErrUnknown is a COMMIT whose answer did not come.
var ErrUnknown = errUnknown

// SetLimit bounds the transactions and reads of a store differently.
func SetLimit(s *Store, d time.Duration) { s.dialect.atMost = d }

// Conflict is how SQLite's errors are told apart.
var Conflict = sqliteConflict

package sqlstore

import "time"

// WantedLibc is the version that the check at the start compares with.
const WantedLibc = wantedLibc

// Rebind shows the text that a database with numbered placeholders gets.
func Rebind(query string) string { return (&dialect{numbered: true}).rebind(query) }

// ErrUnknown is a COMMIT whose answer did not come.
var ErrUnknown = errUnknown

// SetLimit bounds the transactions and reads of a store differently.
func SetLimit(s *Store, d time.Duration) { s.dialect.atMost = d }

// Conflict is how SQLite's errors are told apart.
var Conflict = sqliteConflict

package sqlstore

// WantedLibc is the version that the check at the start compares with.
const WantedLibc = wantedLibc

// Rebind shows the text that a database with numbered placeholders gets.
func Rebind(query string) string { return (&dialect{numbered: true}).rebind(query) }

// Conflict is how SQLite's errors are told apart.
var Conflict = sqliteConflict

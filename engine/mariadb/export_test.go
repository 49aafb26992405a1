package mariadb

import (
	"github.com/trove-dbaas/trove/engine"
)

// For the tests in package mariadb_test.
var (
	PasswordHash = passwordHash
	GrantPattern = grantPattern
	GrantedName  = grantedName
	Quote        = quote
	CheckDB      = checkDatabase
	CheckHost    = checkHost
)

// FixedOptions are the names of the options that no override changes.
func FixedOptions() []string {
	var names []string
	for _, o := range (place{}).fixed(engine.Settings{}) {
		names = append(names, o.name)
	}
	return names
}

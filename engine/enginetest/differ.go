package enginetest

import (
	"slices"
	"testing"

	trove "github.com/trove-dbaas/trove"
)

// hosts says that users of the engine are bound to hosts.
func hosts(s Setup) bool { return s.Engine.Info().Capabilities.UserHosts }

// bound leaves out the users that an engine without hosts does not have.
func bound(s Setup, all ...trove.User) []trove.User {
	if hosts(s) {
		return all
	}
	return slices.DeleteFunc(all, func(u trove.User) bool { return u.Host != "%" })
}

// later makes a database that a right is given on, where it must be there before. Without it the right is NotFound, and nothing is made.
func later(t *testing.T, s Setup, name string) {
	t.Helper()
	if !s.RightsNeedDatabases {
		return
	}
	ctx, e, l := t.Context(), s.Engine, s.Layout
	wantKind(t, "a user with rights on no database", e.CreateUser(ctx, l, trove.User{Name: "hasty", Password: "x", Databases: []string{name}}), trove.KindNotFound)
	wantKind(t, "a right on no database", e.Grant(ctx, l, "alice", "", []string{name}), trove.KindNotFound)
	must(t, e.CreateDatabase(ctx, l, trove.Database{Name: name}))
}

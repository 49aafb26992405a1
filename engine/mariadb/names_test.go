package mariadb_test

import (
	"testing"

	"github.com/trove-dbaas/trove/engine/mariadb"
)

func TestPasswordHashIsTheServersOwn(t *testing.T) {
	// SELECT PASSWORD('password')
	if got, want := mariadb.PasswordHash("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"; got != want {
		t.Errorf("hash = %s, want %s", got, want)
	}
}

package mysql_test

import (
	"encoding/hex"
	"testing"

	"github.com/trove-dbaas/trove/engine/mysql"
)

// TestPasswordHashIsTheServersOwn: what MySQL 9.7.4 kept of CREATE USER ... IDENTIFIED BY 'password', and the salt in it.
func TestPasswordHashIsTheServersOwn(t *testing.T) {
	const want = "2441243030412431585C7E66474A540273071A414C38136C6D167042307173364368482F4E4D3067516169565A504C52484F656B6464316D4A544F744A556B3146372F472E37"
	salt, err := hex.DecodeString(want[14:54])
	must(t, err)
	if got := mysql.HashWith("password", salt); got != want {
		t.Errorf("hash = %s, want %s", got, want)
	}
}

package mariadb_test

import (
	"testing"

	"github.com/trove-dbaas/trove/engine/enginetest"
)

func TestUpgradeFromEveryOlderVersion(t *testing.T) {
	product.RunUpgrades(t, enginetest.OlderProgram{
		Programs: []string{"usr/sbin/mariadbd", "usr/bin/mariadb-install-db", "usr/bin/my_print_defaults", "usr/bin/resolveip"},
		Beside:   []string{"usr/share/m*"}, // mysql, or mariadb since 11
	})
}

package mem_test

import (
	"testing"

	"github.com/trove-dbaas/trove/backupstore/backupstoretest"
	"github.com/trove-dbaas/trove/backupstore/mem"
)

func TestSuite(t *testing.T) {
	backupstoretest.Run(t, func(*testing.T) backupstoretest.Setup { return backupstoretest.Setup{Store: mem.New()} })
}

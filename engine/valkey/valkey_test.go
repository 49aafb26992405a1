package valkey_test

import (
	"os"
	"testing"

	"github.com/trove-dbaas/trove/engine/redis/redistest"
	"github.com/trove-dbaas/trove/engine/valkey"
)

func TestServer(t *testing.T) {
	if _, err := os.Stat("/usr/bin/valkey-server"); err != nil {
		t.Skipf("this distribution has no valkey-server; make enginetest runs this test in an image root that has: %v", err)
	}
	redistest.Run(t, valkey.New)
}

package redis_test

import (
	"os"
	"testing"

	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/redis"
	"github.com/trove-dbaas/trove/engine/redis/redistest"
)

func TestServer(t *testing.T) {
	if _, err := os.Stat("/usr/bin/redis-server"); err != nil {
		t.Fatalf("the server's programs are missing; install Debian's redis-server: %v", err)
	}
	redistest.Run(t, redis.New)
}

func TestUpgradeFromEveryOlderVersion(t *testing.T) {
	redistest.RunUpgrades(t, redis.New, enginetest.OlderProgram{Programs: []string{"usr/bin/redis-server"}})
}

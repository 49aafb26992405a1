package guestapp_test

import (
	"testing"

	"github.com/trove-dbaas/trove/internal/deptest"
)

const program = "github.com/trove-dbaas/trove/cmd/trove-guestagent"

func TestGuestLinksNoControlPlane(t *testing.T) {
	const trove = "github.com/trove-dbaas/trove"
	deptest.MustNotLink(t, program, deptest.Reasons{
		"github.com/nats-io/nats-server/v2":        "the broker runs at the controllers; a guest is its client",
		"modernc.org/sqlite":                       "guests have no access to the control plane's database",
		"modernc.org/libc":                         "it comes with the SQLite driver, and starts with megabytes of its own",
		"github.com/pressly/goose":                 "migrations are the controllers'",
		"github.com/go-chi/chi":                    "a guest serves no REST API, and listens on no port at all",
		"github.com/spf13/cobra":                   "five flags are no reason for a command line library in every guest",
		"github.com/prometheus/client_golang":      "guests are scraped by nobody: what they measure is in their heartbeats",
		"google.golang.org/protobuf":               "it comes with the Prometheus client, with its registries",
		"github.com/vishvananda/netlink":           "a guest's network is made by its host",
		"github.com/google/nftables":               "a guest's network is made by its host",
		"github.com/opencontainers":                "a guest makes no sandboxes",
		"github.com/santhosh-tekuri/jsonschema/v6": "requests were checked by the API",
		trove + "/store":                           "guests have no access to the control plane's database",
		trove + "/cloud":                           "a guest does not know what it runs on",
		trove + "/identity":                        "a guest does not know who asks",
		trove + "/secrets":                         "master keys never come near a guest",
		trove + "/api":                             "services meet on the bus",
		trove + "/taskmanager":                     "services meet on the bus",
		trove + "/conductor":                       "services meet on the bus",
		trove + "/internal/workflow":               "the guest's journal is its own",
		trove + "/internal/app":                    "it wires the controllers",
		"testing":                                  "test code is in tests",
	})
}

func TestLinkedModules(t *testing.T) { deptest.Modules(t, program, "modules.txt") }

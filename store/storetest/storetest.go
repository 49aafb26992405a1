// Package storetest is the suite that every driver of package store has to pass.
//
// Run makes a fresh, empty store for each test. The suite uses the default quotas: 10 instances, unlimited memory, 40 GiB of volumes, 50 backups.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Start is the time at which the suite's stories begin.
var Start = time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)

// Run tests a driver. open returns a new, empty store and closes it when the test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"transactions", testTransactions},
		{"conflicting transactions", testConflicts},
		{"instance", testInstance},
		{"update instance", testUpdateInstance},
		{"delete instance", testDeleteInstance},
		{"pages of instances", testPages},
		{"filters of instances", testFilters},
		{"managed instances", testManaged},
		{"replicas", testReplicas},
		{"root history", testRootHistory},
		{"datastores", testDatastores},
		{"configuration groups", testConfigurations},
		{"pages of configuration groups", testConfigurationPages},
		{"instances of a configuration group", testConfiguredInstances},
		{"configuration of an instance", testInstanceConfiguration},
		{"parameters", testParameters},
		{"authorities of databases", testAuthorities},
		{"certificates of databases", testCertificates},
		{"delete of what is held", testHoldThenDelete},
		{"hold of what is deleted", testDeleteThenHold},
		{"holds at the same time", testHoldsDoNotExclude},
		{"quotas", testQuotas},
		{"quota is all or none", testQuotaAllOrNone},
		{"quota under concurrency", testQuotaConcurrent},
		{"enrolment", testEnrolment},
		{"enrolment under concurrency", testEnrolmentConcurrent},
		{"heartbeats", testHeartbeats},
		{"restart required", testRestartRequired},
		{"boot returns", testBootReturns},
		{"service status", testServiceStatus},
		{"reports of operations", testReports},
		{"operation from enqueue to close", testOperation},
		{"one open operation for each target", testBusy},
		{"claim", testClaim},
		{"claim under concurrency", testClaimConcurrent},
		{"lease", testLease},
		{"take over", testTakeOver},
		{"event before release", testEvents},
		{"cancel", testCancel},
		{"visible version", testVisibleVersion},
		{"timeline", testTimeline},
		{"list of operations", testOperations},
		{"events of an instance", testInstanceEvents},
		{"events are bounded", testEventsAreBounded},
		{"events are counted", testEventsAreCounted},
		{"timeline of an instance", testInstanceTimeline},
		{"backup", testBackup},
		{"list of backups", testBackupList},
		{"instance that is backed up", testBackingUp},
		{"backup strategies", testBackupStrategies},
		{"module", testModule},
		{"names of modules", testModuleNames},
		{"list of modules", testModuleList},
		{"modules of instances", testInstanceModules},
		{"cluster", testCluster},
		{"list of clusters", testClusterList},
		{"members of clusters", testMembers},
		{"idempotent calls", testIdempotentCalls},
		{"idempotent call that did nothing", testIdempotentCallReleased},
		{"idempotent call under concurrency", testIdempotentCallOnce},
		{"idempotent calls are pruned", testPruneIdempotentCalls},
		{"kept data", testKeptData},
		{"scrape tokens", testScrapeTokens},
		{"audit", testAudit},
		{"audit of strange texts", testAuditOfStrangeTexts},
		{"audit is pruned", testPruneAudit},
		{"model of quotas and operations", testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

// Instance returns an instance with every column set.
func Instance(project string) trove.Instance {
	return trove.Instance{
		ID: trove.NewID(), ProjectID: project, Name: "db – ü", Created: Start, Updated: Start, Task: trove.TaskBuilding, ServerStatus: trove.ServerBuild,
		DatastoreVersionID: trove.NewID(), FlavorID: "2", VolumeSize: 5, VolumeType: "fast", Region: "RegionOne", AvailabilityZone: "nova",
		Locality: "affinity", Hostname: "db.example.org", ConfigurationID: trove.NewID(), ReplicaOf: trove.NewID(),
		ClusterID: trove.NewID(), ShardID: "s-1", MemberType: "member",
		Access:    trove.Access{IsPublic: true, AllowedCIDRs: []string{"10.0.0.0/8"}},
		NICs:      []trove.NIC{{NetworkID: "n", SubnetID: "s", IPAddress: "10.1.1.1"}},
		Addresses: []trove.Address{{Address: "10.1.1.1", Type: "private", Network: "n"}, {Address: "192.0.2.1", Type: "public"}},
		Fault:     &trove.Fault{Message: "no space", Details: "evidence", Created: Start.Add(time.Second)},
		Storage: trove.Storage{
			Alarm: trove.StorageHigh, Since: Start, Autoscale: &trove.Autoscale{Threshold: 80, StepGiB: 5, Max: 100},
			Tried: Start.Add(time.Second), Operation: "o", Refusal: "no room – ü",
		},
		ComputeID: "c-1", VolumeID: "v-1", Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 5},
	}
}

// do runs fn in a transaction that must succeed.
func do(t *testing.T, s store.Store, fn func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := s.InTx(t.Context(), fn); err != nil {
		t.Fatalf("transaction: %v", err)
	}
}

// insist runs fn in a transaction, again and again while too many change the same: a busy machine lets nobody finish for a while.
func insist(t *testing.T, s store.Store, fn func(ctx context.Context, tx store.Tx) error) error {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		err := s.InTx(t.Context(), fn)
		if trove.KindOf(err) != trove.KindUnavailable || time.Now().After(end) {
			return err
		}
	}
}

// insert writes instances and returns the first one as it is read back.
func insert(t *testing.T, s store.Store, is ...trove.Instance) trove.Instance {
	t.Helper()
	do(t, s, func(ctx context.Context, tx store.Tx) error {
		for _, i := range is {
			if err := tx.InsertInstance(ctx, i); err != nil {
				return err
			}
		}
		return nil
	})
	return get(t, s, is[0].ID)
}

func get(t *testing.T, s store.Store, id string) trove.Instance {
	t.Helper()
	i, err := s.Instance(t.Context(), id)
	if err != nil {
		t.Fatalf("read instance %s: %v", id, err)
	}
	return i
}

// wantKind checks the kind of an error.
func wantKind(t *testing.T, err error, want trove.Kind) {
	t.Helper()
	if err == nil || trove.KindOf(err) != want {
		t.Errorf("got the error %v (%s), want one of the kind %q", err, trove.KindOf(err), want)
	}
}

// wantMissing checks that an error says that the id was not found, in Trove's words.
func wantMissing(t *testing.T, err error, id string) {
	t.Helper()
	wantKind(t, err, trove.KindNotFound)
	same(t, trove.MessageOf(err), "Resource "+id+" cannot be found.")
}

func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

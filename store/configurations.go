package store

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// ConfigurationReader is what can be read of configuration groups and parameters.
type ConfigurationReader interface {
	// Configuration returns a group; NotFound has Trove's message "Configuration group with ID <id> could not be found."
	Configuration(ctx context.Context, id string) (trove.Configuration, error)
	// Configurations returns a page, ordered by id.
	Configurations(ctx context.Context, f ConfigurationFilter) ([]trove.Configuration, error)
	// ConfiguredInstances returns a page of the living instances that have the group, ordered by id.
	ConfiguredInstances(ctx context.Context, configuration string, f InstanceFilter) ([]trove.Instance, error)
	// CountConfigured returns how many living instances have the group.
	CountConfigured(ctx context.Context, configuration string) (int, error)

	// InstanceConfiguration returns how far an instance's guest has followed its group. One that was never told anything has the zero value.
	InstanceConfiguration(ctx context.Context, instance string) (trove.InstanceConfiguration, error)
	// LateConfigurations returns instances whose guests are to be told what their groups say, at most limit: those whose last attempt came to no end and
	// whose due time has passed, in its order.
	LateConfigurations(ctx context.Context, now time.Time, limit int) ([]string, error)

	// Parameters returns the rules of a datastore version, ordered by name; those that were removed only if asked for.
	Parameters(ctx context.Context, version string, removed bool) ([]trove.Parameter, error)
	// VersionUse returns what uses a datastore version, in Trove's words "instance", "backup" and "configuration"; "": nothing.
	VersionUse(ctx context.Context, version string) (string, error)
}

// ConfigurationFilter chooses a page of configuration groups.
type ConfigurationFilter struct {
	ProjectID string // "": all projects
	Marker    string // ids after this one
	Limit     int    // 0: no limit
}

// ConfigurationWriter is what can be written of configuration groups and parameters.
type ConfigurationWriter interface {
	InsertConfiguration(ctx context.Context, c trove.Configuration) error
	// UpdateConfiguration writes name, description and values. Conflict if the group was written since it was read (Version).
	UpdateConfiguration(ctx context.Context, c trove.Configuration, now time.Time) error
	// DeleteConfiguration removes a group, whether instances have it or not: see Holds. Gone is fine.
	DeleteConfiguration(ctx context.Context, id string) error

	// BeginConfiguration raises the revision of an instance's configuration for an attempt to tell its guest, which nobody else makes before due, and
	// returns it. It is the time in microseconds, or one more than the last: so it is a newer one too after the store was restored from an older copy.
	BeginConfiguration(ctx context.Context, instance string, now, due time.Time) (revision int64, err error)
	// EndConfiguration notes that the guest has taken the revision. If another attempt has begun since, which may have told the guest something else,
	// the guest stays one to be told.
	EndConfiguration(ctx context.Context, instance string, revision int64) error
	// SetConfigurationRestart notes whether the database has to be restarted for its configuration to hold.
	SetConfigurationRestart(ctx context.Context, instance string, restart bool) error

	// PutParameter inserts or replaces a rule of a datastore version; names compare exactly.
	PutParameter(ctx context.Context, version string, p trove.Parameter) error
	// ReplaceParameters makes the rules of a datastore version these.
	ReplaceParameters(ctx context.Context, version string, all []trove.Parameter) error
}

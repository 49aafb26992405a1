package store

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Modules is what can be read of modules.
type Modules interface {
	// Module returns a living module. The error of one that is not there is NotFound in Trove's words for modules.
	Module(ctx context.Context, id string) (trove.Module, error)
	// Modules returns a page of living modules without their contents, ordered by id.
	Modules(ctx context.Context, f ModuleFilter) ([]trove.Module, error)
	// InstanceModules returns which living instances have which living modules, ordered by instance and module; "" is any.
	InstanceModules(ctx context.Context, instance, module string) ([]trove.InstanceModule, error)
}

// ModuleFilter chooses a page of modules. What is empty chooses nothing in particular.
type ModuleFilter struct {
	ProjectID   string  // those of this project and those of all projects
	Visible     bool    // only those that are visible
	Name        string  // exactly this name
	DatastoreID *string // exactly this datastore; "" is those for every datastore
	Marker      string  // ids after this one
	Limit       int     // 0: no limit
}

// ModulesTx is what can be written. Of two living modules with the same name, type, project, datastore and version the second one is an error.
type ModulesTx interface {
	InsertModule(ctx context.Context, m trove.Module) error
	// UpdateModule reads the module, lets change alter it and writes every column but id and created. Updated is set to now.
	UpdateModule(ctx context.Context, id string, now time.Time, change func(*trove.Module) error) error
	// DeleteModule marks the module deleted and forgets its contents. Gone is fine.
	DeleteModule(ctx context.Context, id string, now time.Time) error

	// PutInstanceModule inserts or replaces by instance and module.
	PutInstanceModule(ctx context.Context, m trove.InstanceModule) error
	// DeleteInstanceModules forgets that the instance has the module, or with "" any module. Gone is fine.
	DeleteInstanceModules(ctx context.Context, instance, module string) error
}

package store

import "context"

// Holds keep two transactions from deciding over two rows at once: one makes something that needs a row of another table, the other one deletes that
// row because nothing needs it. Whoever makes it holds the row in the same transaction, and whoever deletes looks for what needs it after he has deleted it
// or held it himself. Then one of the two waits for the other and sees what that one did.
//
// Of two transactions that hold the same row one waits until the other has ended, so a hold should be the last thing that a transaction does. NotFound, in
// the words of the thing's reader, if the row is not there (any more).
type Holds interface {
	// HoldDatastore is for versions of the datastore: who makes, changes or deletes one.
	HoldDatastore(ctx context.Context, id string) error
	// HoldDatastoreVersion is for what VersionUse looks for, and for parameters.
	HoldDatastoreVersion(ctx context.Context, id string) error
	// HoldConfiguration is for instances that get the group. The group's values cannot be changed then either.
	HoldConfiguration(ctx context.Context, id string) error
}

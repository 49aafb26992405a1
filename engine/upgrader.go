package engine

import "context"

// Upgrader is an engine that can take over a data directory which an older version of its product wrote. It is optional: without it, an instance's
// datastore version can be changed only to one whose programs are of the same version.
//
// The change goes like this: the old version runs and CheckUpgrade asks it; it is stopped and its data is kept aside; the new version's driver runs
// Upgrade beside the stopped server, which is then started and made Ready; FinishUpgrade does what needs the running server. When one of them fails, the
// kept data comes back under the old programs, so none of these methods undoes anything.
type Upgrader interface {
	// Versions returns the version of the product's programs and of those that the data directory was last started with, as the product writes
	// them ("10.11.14", "17.6"); data is "" when the directory holds none. It does not ask the server.
	Versions(ctx context.Context, l Layout) (programs, data string, err error)
	// CheckUpgrade asks the running server what would fail during or after a change to another version of the product. It changes nothing.
	CheckUpgrade(ctx context.Context, l Layout, version string) ([]Finding, error)
	// Upgrade makes the stopped server's data directory one that the programs can start with. previous is where the root file system of the version that
	// wrote it is mounted, "" when that is not there. It may be repeated on the same data after a kill at any point, and does nothing where nothing is
	// to be done, as for two releases of one version. Downgrades are BadRequest.
	Upgrade(ctx context.Context, l Layout, previous string, progress Progress) error
	// FinishUpgrade is called after Ready, whenever the image of an instance has changed, for a release of the same version too: system tables, and every
	// index whose order depends on a collation that the new image has in another version. It returns a sentence for each thing that was done. It may be
	// repeated.
	FinishUpgrade(ctx context.Context, l Layout, progress Progress) ([]string, error)
}

// Finding is something that the check before an upgrade found.
type Finding struct {
	Blocks   bool   // the upgrade would fail; otherwise it is worth knowing
	Sentence string // what, where, and what to do about it
}

// Progress tells what is being done, in a sentence, and how much of the whole is done, in percent.
type Progress func(sentence string, percent int)

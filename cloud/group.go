package cloud

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// Policy is how the machines of a group are placed.
type Policy string

// The policies. Both hold strictly: a machine that cannot be placed by them is not made.
const (
	Affinity     Policy = "affinity"      // all on one host
	AntiAffinity Policy = "anti-affinity" // each on a host of its own
)

// Group is what machines of one replica set or cluster are placed by. It is there from its first machine on, and gone with its last.
type Group struct {
	ID     string // of the set's primary or of the cluster
	Policy Policy // "": the machine is in no group
	// Peers are the other instances of the set, the primary first. A machine joins the group that the machine of one of them is in, whatever its id: a replica that
	// was promoted leaves the group that it was made in as little as those that follow it now.
	Peers []string
}

// Check returns what is wrong with a group, nil for none.
func (g Group) Check() error {
	switch {
	case g.Policy == "":
		return nil
	case g.Policy != Affinity && g.Policy != AntiAffinity:
		return trove.Permanent(trove.Errorf(trove.KindBadRequest, "%q is no way to place machines: it is %s or %s.", g.Policy, Affinity, AntiAffinity))
	}
	for _, id := range append([]string{g.ID}, g.Peers...) {
		if !trove.ValidID(id) {
			return trove.Permanent(trove.Errorf(trove.KindBadRequest, "%q is neither an instance nor a cluster that machines could be placed with.", id))
		}
	}
	return nil
}

// Grouper is a provider whose groups are things of their own, which may be left over: by a create that was cut off before its machine. It is optional.
type Grouper interface {
	// RemoveGroup makes the groups of this id be gone that have no machine, and leaves those that have.
	RemoveGroup(ctx context.Context, id string) error
	// EmptyGroups returns the ids of groups without a machine. They may be another deployment's; whoever needs one that is gone makes it again.
	EmptyGroups(ctx context.Context) ([]string, error)
}

package reconcilers

import trove "github.com/trove-dbaas/trove"

// Concerns reports whether the loop would call the reconciler for an instance.
func (l *Loop) Concerns(name string, i *trove.Instance) bool {
	for _, r := range l.byInstance {
		if r.name == name {
			return r.concerns(i, l.cfg.Clock.Now())
		}
	}
	return false
}

package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// Action is one change. It may be repeated when it is not known whether it was made: a Look afterwards finds what there is.
type Action interface {
	apply(ctx context.Context, b *Bootstrap, ids *ids) error
}

// ids are those of things that are there, or were made a moment ago.
type ids struct {
	project, user, network, subnet, service string
	groups                                  map[string]string // security groups by name
	mtu                                     int
	ports                                   map[string]Port
	flavors                                 map[string]string // by name
	images                                  map[string]string // by the manifest's id
}

func (f Found) ids() *ids {
	i := &ids{groups: map[string]string{}, ports: map[string]Port{}, flavors: map[string]string{}, images: map[string]string{}}
	first := func(to *string, all []Named) {
		if len(all) > 0 {
			*to = all[0].ID
		}
	}
	first(&i.project, f.Projects)
	first(&i.user, f.Users)
	first(&i.service, f.Services)
	if len(f.Networks) > 0 {
		i.network, i.mtu = f.Networks[0].ID, f.Networks[0].MTU
	}
	if len(f.Subnets) > 0 {
		i.subnet = f.Subnets[0].ID
	}
	for _, g := range slices.Concat(f.Groups, f.Guards) {
		i.groups[g.Name] = g.ID
	}
	for _, p := range f.Ports {
		i.ports[p.Name] = p
	}
	for _, flavor := range f.Flavors {
		i.flavors[flavor.Name] = flavor.ID
	}
	for _, image := range f.Images {
		if image.Status == "active" {
			i.images[image.Trove] = image.ID
		}
	}
	return i
}

// rounds is how often Run looks again: what depends on something that was not there is planned when it is.
const rounds = 3

// Run makes an OpenStack be as wanted and calls told for each thing, in their order: for what is there as well as for what was just made. At the end it looks
// again, and it is an error if something that was made is not there then. With dry nothing is changed.
func (b *Bootstrap) Run(ctx context.Context, w Wanted, dry bool, told func(Step)) (Found, error) {
	var last []string
	for round := range rounds {
		f, err := b.Look(ctx, w)
		if err != nil {
			return f, err
		}
		steps, err := Plan(w, f)
		if err != nil {
			return f, err
		}
		if dry {
			for _, s := range steps {
				told(s)
			}
			return f, Refusals(steps)
		}
		if round > 0 && Changes(steps) == 0 {
			return f, nil
		}
		last = nil
		if err := b.Apply(ctx, f, steps, func(s Step) {
			if s.Action != nil {
				last = append(last, string(s.Part)+" "+s.Name+": "+s.Detail)
			}
			if round == 0 || s.Action != nil {
				told(s)
			}
		}); err != nil {
			return f, err
		}
		if Changes(steps) == 0 {
			return f, nil
		}
	}
	return Found{}, trove.Errorf(trove.KindConflict, "What was made is not there, or not as it was made: look who else changes it, and repeat this.\n%s", strings.Join(last, "\n"))
}

// Apply carries the steps out and calls told after each one, also for those that have nothing to do. It ends with the first one that fails; what was made stays,
// and is found again.
func (b *Bootstrap) Apply(ctx context.Context, f Found, steps []Step, told func(Step)) error {
	if err := Refusals(steps); err != nil {
		return err
	}
	known := f.ids()
	for _, s := range steps {
		if s.Action != nil {
			if err := s.Action.apply(ctx, b, known); err != nil {
				return explained(s, err)
			}
		}
		told(s)
	}
	return nil
}

// explained adds what was being done to an error, and keeps its kind.
func explained(s Step, err error) error {
	if e, ok := errors.AsType[*trove.Error](err); ok {
		return trove.Wrap(e.Kind, err, "%s %s: %s", s.Part, s.Name, e.Message)
	}
	return fmt.Errorf("%s %s: %w", s.Part, s.Name, err)
}

// need says which part has to be there first, for a run with some parts only.
func need(id string, part Part) error {
	if id == "" {
		return trove.Errorf(trove.KindConflict, "The part %s is not there yet: it comes first.", part)
	}
	return nil
}

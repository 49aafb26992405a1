package app

import (
	trove "github.com/trove-dbaas/trove"
)

// Components are the controllers that one process runs. Together they are the service, in as many processes as they are divided into.
type Components struct {
	API         bool
	Taskmanager bool
	Conductor   bool
}

// AllComponents is the whole service in one process.
var AllComponents = Components{API: true, Taskmanager: true, Conductor: true}

// ParseComponents returns the components of the names api, taskmanager and conductor.
func ParseComponents(names []string) (Components, error) {
	var c Components
	for _, name := range names {
		switch name {
		case "api":
			c.API = true
		case "taskmanager":
			c.Taskmanager = true
		case "conductor":
			c.Conductor = true
		default:
			return Components{}, trove.Errorf(trove.KindBadRequest, "There is no component %q: the components are api, taskmanager and conductor.", name)
		}
	}
	if c == (Components{}) {
		return Components{}, trove.Errorf(trove.KindBadRequest, "Name a component: api, taskmanager or conductor.")
	}
	return c, nil
}

// Names returns the components' names, in the order in which a reader expects them.
func (c Components) Names() []string {
	var names []string
	if c.API {
		names = append(names, "api")
	}
	if c.Taskmanager {
		names = append(names, "taskmanager")
	}
	if c.Conductor {
		names = append(names, "conductor")
	}
	return names
}

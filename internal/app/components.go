package app

import (
	"regexp"

	trove "github.com/trove-dbaas/trove"
)

// Components are the controllers that one process runs. Together they are the service, in as many processes as they are divided into.
type Components struct {
	API         bool
	Taskmanager bool
	Conductor   bool

	// Name tells this process from others that run the same components from the same state directory; "" for the first.
	Name string
}

var processName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// Named returns the components as those of a further process. A taskmanager that may have to wait for its turn is alone in its process.
func (c Components) Named(name string) (Components, error) {
	switch {
	case name == "":
		return c, nil
	case !processName.MatchString(name):
		return c, trove.Errorf(trove.KindBadRequest, "%q cannot be the name of a process: lower-case letters, digits and dashes, at most 31.", name)
	case c.Taskmanager && (c.API || c.Conductor):
		return c, trove.Errorf(trove.KindBadRequest, "A further taskmanager stands by until the first one ends: run it in a process of its own.")
	}
	c.Name = name
	return c, nil
}

// processes returns the names of the components as the locks of this process have them.
func (c Components) processes() []string {
	names := c.Names()
	if c.Name != "" {
		for n := range names {
			names[n] += "@" + c.Name
		}
	}
	return names
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

package client

import (
	"fmt"
	"net/http"
	"strings"
)

// named is a thing that is found by name.
type named struct{ id, name string }

// pick returns the id of the one thing with the name. None, and more than one, are errors that say what to do.
func pick(what, verb, name string, all []named) (string, error) {
	var ids []string
	for _, n := range all {
		if n.name == name {
			ids = append(ids, n.id)
		}
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", &Error{
			Status: http.StatusNotFound, Fault: "itemNotFound",
			Message: fmt.Sprintf("There is no %s with the id or name %q; `trove %s list` shows all.", what, name, verb),
		}
	}
	return "", &Error{
		Status: http.StatusConflict, Fault: "conflict",
		Message: fmt.Sprintf("%d %ss have the name %q; use an id: %s.", len(ids), what, name, strings.Join(ids, ", ")),
	}
}

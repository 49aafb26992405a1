package cloud

import (
	trove "github.com/trove-dbaas/trove"
)

// Rights say with whose rights the catalogue is read. What a request names is read with those of its caller, so that our own, which are wider, act on
// nothing that the caller could not see; AsService is for what no request named.
type Rights struct {
	Project string
	Token   trove.Secret // of the caller; a driver asks with it and neither keeps it nor writes it anywhere
}

// AsService returns the service's own rights.
func AsService() Rights { return Rights{} }

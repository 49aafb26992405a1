package api

import (
	"net/http"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/identity"
)

// identityHeaders are the headers that keystonemiddleware sets for the service behind it; each of the first group exists for the service token too,
// with X-Service- in front. Nobody sets them here, and nothing that a client sends under these names may look as if somebody had.
var identityHeaders = func() []string {
	var all []string
	for _, name := range []string{
		"Domain-Id", "Domain-Name", "Project-Id", "Project-Name", "Project-Domain-Id", "Project-Domain-Name",
		"User-Id", "User-Name", "User-Domain-Id", "User-Domain-Name", "Roles", "Identity-Status",
	} {
		all = append(all, "X-"+name, "X-Service-"+name)
	}
	return append(all, "X-Is-Admin-Project", "X-Service-Catalog", "X-Role", "X-User", "X-Tenant", "X-Tenant-Id", "X-Tenant-Name")
}()

// takeTokens returns the tokens of a request and removes them, and whatever claims to tell who asks, from its headers: what comes after knows the caller
// from the tokens alone, and cannot write them anywhere.
func takeTokens(h http.Header) identity.Tokens {
	t := identity.Tokens{User: trove.Secret(h.Get(wire.HeaderToken)), Service: trove.Secret(h.Get(wire.HeaderService))}
	for name := range h {
		// Keys of a header that a server has read are in canonical form, others are not looked up by anybody.
		if strings.HasPrefix(name, "X-") && (name == wire.HeaderToken || name == wire.HeaderService || slices.Contains(identityHeaders, name)) {
			delete(h, name)
		}
	}
	return t
}

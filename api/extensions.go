package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/trove-dbaas/trove/api/wire"
)

func extensionOperations() []Operation {
	return []Operation{
		{
			ID: "listExtensions", Method: http.MethodGet, Path: "/extensions", Summary: "List the parts of the API that are not its core.",
			Success: http.StatusOK, Response: wire.ExtensionList{}, handle: (*server).listExtensions,
		},
		{
			ID: "showExtension", Method: http.MethodGet, Path: "/extensions/{alias}", Summary: "Show one of them.",
			Success: http.StatusOK, Response: wire.ExtensionBody{}, handle: (*server).showExtension,
		},
	}
}

// extensions are Trove's, with its names.
var extensions = []wire.Extension{
	{
		Name: "Mysql", Alias: "MYSQL", Description: "Non essential MySQL services such as users and schemas",
		Namespace: "http://TBD", Updated: "2011-01-22T13:25:27-06:00", Links: []wire.Link{},
	},
	{
		Name: "Mgmt", Alias: "Mgmt", Description: "MGMT services such as details diagnostics",
		Namespace: "http://TBD", Updated: "2011-01-22T13:25:27-06:00", Links: []wire.Link{},
	},
}

func (*server) listExtensions(context.Context, *call) (any, error) {
	return &wire.ExtensionList{Extensions: extensions}, nil
}

func (*server) showExtension(_ context.Context, c *call) (any, error) {
	alias := c.params.get("alias")
	n := slices.IndexFunc(extensions, func(e wire.Extension) bool { return e.Alias == alias })
	if n < 0 {
		return nil, errNoRoute
	}
	return &wire.ExtensionBody{Extension: extensions[n]}, nil
}

package api

import (
	"net/http"

	"github.com/trove-dbaas/trove/api/wire"
)

func configurationOperations() []Operation {
	const path, one = "/configurations", "/configurations/{configuration}"
	return []Operation{
		{
			ID: "listConfigurations", Method: http.MethodGet, Path: path, Rule: "configuration:index", Query: paged,
			Summary: "List the project's configuration groups; for administrators those of all projects.",
			Success: http.StatusOK, Response: wire.ConfigurationGroupList{}, handle: (*server).listConfigurations,
		},
		{
			ID: "createConfiguration", Method: http.MethodPost, Path: path, Rule: "configuration:create", Schema: "configuration-create.json",
			Summary: "Create a configuration group.", Creates: true,
			Success: http.StatusOK, Response: wire.ConfigurationGroupBody{}, handle: (*server).createConfiguration,
		},
		{
			ID: "showConfiguration", Method: http.MethodGet, Path: one, Rule: "configuration:show", Summary: "Show a configuration group.",
			Success: http.StatusOK, Response: wire.ConfigurationGroupBody{}, handle: (*server).showConfiguration,
		},
		{
			ID: "updateConfiguration", Method: http.MethodPut, Path: one, Rule: "configuration:update", Schema: "configuration-update.json",
			Summary: "Change name or description of a configuration group, or replace all its values, in the databases that have it too.",
			Success: http.StatusAccepted, handle: (*server).updateConfiguration,
		},
		{
			ID: "editConfiguration", Method: http.MethodPatch, Path: one, Rule: "configuration:edit", Schema: "configuration-edit.json",
			Summary: "Set some values of a configuration group, in the databases that have it too.",
			Success: http.StatusOK, handle: (*server).editConfiguration,
		},
		{
			ID: "deleteConfiguration", Method: http.MethodDelete, Path: one, Rule: "configuration:delete",
			Summary: "Delete a configuration group that no instance has.", Success: http.StatusAccepted, handle: (*server).deleteConfiguration,
		},
		{
			ID: "listConfiguredInstances", Method: http.MethodGet, Path: one + "/instances", Rule: "configuration:instances", Query: paged,
			Summary: "List the instances that have a configuration group.",
			Success: http.StatusOK, Response: wire.ConfiguredInstanceList{}, handle: (*server).listConfiguredInstances,
		},
		{
			ID: "showDefaults", Method: http.MethodGet, Path: "/instances/{instance}/configuration", Rule: "instance:configuration",
			Summary: "Show what an instance's database has before a configuration group is attached.",
			Success: http.StatusOK, Response: wire.DefaultConfigurationBody{}, handle: (*server).showDefaults,
		},
		{
			ID: "listParameters", Method: http.MethodGet, Path: "/datastores/{datastore}/versions/{version}/parameters",
			Rule: "configuration-parameter:index", Summary: "List the parameters that configuration groups of a datastore version may have.",
			Success: http.StatusOK, Response: wire.ParameterList{}, handle: (*server).listParameters,
		},
		{
			ID: "showParameter", Method: http.MethodGet, Path: "/datastores/{datastore}/versions/{version}/parameters/{parameter}",
			Rule: "configuration-parameter:show", Summary: "Show a parameter of a datastore version.",
			Success: http.StatusOK, Response: wire.Parameter{}, handle: (*server).showParameter,
		},
		{
			ID: "listParametersByVersion", Method: http.MethodGet, Path: "/datastores/versions/{version}/parameters",
			Rule: "configuration-parameter:index_by_version", Summary: "List the parameters of a datastore version by its id alone.",
			Success: http.StatusOK, Response: wire.ParameterList{}, handle: (*server).listParameters,
		},
		{
			ID: "showParameterByVersion", Method: http.MethodGet, Path: "/datastores/versions/{version}/parameters/{parameter}",
			Rule: "configuration-parameter:show_by_version", Summary: "Show a parameter of a datastore version by the version's id alone.",
			Success: http.StatusOK, Response: wire.Parameter{}, handle: (*server).showParameter,
		},
	}
}

func managedVersionOperations() []Operation {
	const versions, version = "/mgmt/datastore-versions", "/mgmt/datastore-versions/{version}"
	const parameters, parameter = "/mgmt/datastores/versions/{version}/parameters", "/mgmt/datastores/versions/{version}/parameters/{parameter}"
	return []Operation{
		{
			ID: "listManagedVersions", Method: http.MethodGet, Path: versions, Summary: "List all datastore versions; administrators only.",
			Success: http.StatusOK, Response: wire.ManagedVersionList{}, Admin: true, handle: (*server).listManagedVersions,
		},
		{
			ID: "createManagedVersion", Method: http.MethodPost, Path: versions, Schema: "datastore-version-create.json",
			Summary: "Create a datastore version, and the datastore if it is not there; administrators only. The rules of its parameters are the engine driver's.",
			Creates: true, Success: http.StatusAccepted, Admin: true, handle: (*server).createManagedVersion,
		},
		{
			ID: "showManagedVersion", Method: http.MethodGet, Path: version, Summary: "Show a datastore version; administrators only.",
			Success: http.StatusOK, Response: wire.ManagedVersionBody{}, Admin: true, handle: (*server).showManagedVersion,
		},
		{
			ID: "editManagedVersion", Method: http.MethodPatch, Path: version, Schema: "datastore-version-edit.json",
			Summary: "Change a datastore version; administrators only.", Success: http.StatusAccepted, Admin: true, handle: (*server).editManagedVersion,
		},
		{
			ID: "deleteManagedVersion", Method: http.MethodDelete, Path: version,
			Summary: "Delete a datastore version that nothing uses; administrators only.",
			Success: http.StatusAccepted, Admin: true, handle: (*server).deleteManagedVersion,
		},
		{
			ID: "listManagedParameters", Method: http.MethodGet, Path: parameters, Summary: "List the parameters of a datastore version; administrators only.",
			Success: http.StatusOK, Response: wire.ManagedParameterList{}, Admin: true, handle: (*server).listManagedParameters,
		},
		{
			ID: "createManagedParameter", Method: http.MethodPost, Path: parameters, Schema: "parameter.json",
			Summary: "Add a parameter to a datastore version; administrators only.", Creates: true,
			Success: http.StatusOK, Response: wire.ManagedParameter{}, Admin: true, handle: (*server).createManagedParameter,
		},
		{
			ID: "showManagedParameter", Method: http.MethodGet, Path: parameter, Summary: "Show a parameter of a datastore version; administrators only.",
			Success: http.StatusOK, Response: wire.ManagedParameter{}, Admin: true, handle: (*server).showManagedParameter,
		},
		{
			ID: "updateManagedParameter", Method: http.MethodPut, Path: parameter, Schema: "parameter.json",
			Summary: "Change the rule for a parameter of a datastore version; administrators only.",
			Success: http.StatusOK, Response: wire.ManagedParameter{}, Admin: true, handle: (*server).updateManagedParameter,
		},
		{
			ID: "deleteManagedParameter", Method: http.MethodDelete, Path: parameter,
			Summary: "Remove a parameter from a datastore version; administrators only.",
			Success: http.StatusNoContent, Admin: true, handle: (*server).deleteManagedParameter,
		},
	}
}

package api

import (
	"net/http"

	"github.com/trove-dbaas/trove/api/wire"
)

var (
	queryLimit  = Query{"limit", "integer", "the most items to list, at most the page size"}
	queryMarker = Query{"marker", "string", "list what comes after this one"}
	paged       = []Query{queryLimit, queryMarker}
	clustered   = []Query{queryLimit, queryMarker, {"include_clustered", "boolean", "also members of clusters"}}
)

// Operations returns the operation table.
func Operations() []Operation {
	var all []Operation
	for _, group := range []struct {
		name string
		ops  []Operation
	}{
		{"Instances", instanceOperations()},
		{"Upgrades", upgradeOperations()},
		{"Operations", progressOperations()},
		{"Databases", databaseOperations()},
		{"Users", userOperations()},
		{"Root", rootOperations()},
		{"Logs", logOperations()},
		{"Storage", storageOperations()},
		{"Metrics", figureOperations()},
		{"TLS", sslOperations()},
		{"Backups", backupOperations()},
		{"Backup strategies", strategyOperations()},
		{"Modules", moduleOperations()},
		{"Clusters", clusterOperations()},
		{"Datastores", datastoreOperations()},
		{"Configuration groups", configurationOperations()},
		{"Datastore versions and parameters", managedVersionOperations()},
		{"Flavors, limits and quotas", limitOperations()},
		{"Management of instances", mgmtOperations()},
		{"Extensions", extensionOperations()},
		{"Hosts", hostOperations()},
		{"Guest agents", agentOperations()},
		{"Audit", auditOperations()},
	} {
		for _, op := range group.ops {
			op.Group = group.name
			all = append(all, op)
		}
	}
	return all
}

func instanceOperations() []Operation {
	return []Operation{
		{
			ID: "listInstances", Method: http.MethodGet, Path: "/instances", Rule: "instance:index", Summary: "List the project's instances.",
			Query: clustered, Success: http.StatusOK, Response: wire.InstanceList{}, handle: (*server).listInstances,
		},
		{
			ID: "listInstancesDetail", Method: http.MethodGet, Path: "/instances/detail", Rule: "instance:detail",
			Summary: "List the project's instances in detail.",
			Query:   clustered, Success: http.StatusOK, Response: wire.InstanceList{}, handle: (*server).detailInstances,
		},
		{
			ID: "createInstance", Method: http.MethodPost, Path: "/instances", Rule: "instance:create", Schema: "instance-create.json",
			Summary: "Create an instance. The header X-Trove-Operation names the operation.",
			Creates: true, Success: http.StatusOK, Response: wire.InstanceBody{}, handle: (*server).createInstance,
		},
		{
			ID: "showInstance", Method: http.MethodGet, Path: "/instances/{instance}", Rule: "instance:show", Summary: "Show an instance.",
			Success: http.StatusOK, Response: wire.InstanceBody{}, handle: (*server).showInstance,
		},
		{
			ID: "updateInstance", Method: http.MethodPut, Path: "/instances/{instance}", Rule: "instance:update", Schema: "instance-update.json",
			Summary: "Rename an instance, change its access rules or its datastore version, or attach or detach a configuration group (null, or an empty object). Rules that are left out stay.",
			Success: http.StatusAccepted, handle: (*server).updateInstance,
		},
		{
			ID: "editInstance", Method: http.MethodPatch, Path: "/instances/{instance}", Rule: "instance:update", Schema: "instance-edit.json",
			Summary: "Rename an instance, change its datastore version, or attach or detach a configuration group. Deprecated: use PUT.", Success: http.StatusAccepted, handle: (*server).updateInstance,
		},
		{
			ID: "deleteInstance", Method: http.MethodDelete, Path: "/instances/{instance}", Rule: "instance:delete",
			Summary: "Delete an instance with its data.", Success: http.StatusAccepted, handle: (*server).deleteInstance,
		},
		{
			ID: "actOnInstance", Method: http.MethodPost, Path: "/instances/{instance}/action", Schema: "instance-action.json",
			Summary: "Restart, stop, start, resize (flavor or volume), reset the status of an instance, or go back from its last upgrade or drop what that kept. Stop, start and upgrade_ are not in Trove.",
			Success: http.StatusAccepted, handle: (*server).actOnInstance,
		},
	}
}

func progressOperations() []Operation {
	return []Operation{
		{
			ID: "listOperations", Method: http.MethodGet, Path: "/instances/{id}/operations", Extension: true,
			Summary: "List the operations of an instance, newest first; also of a deleted one.",
			Success: http.StatusOK, Response: wire.OperationList{}, handle: (*server).listOperations,
		},
		{
			ID: "listEvents", Method: http.MethodGet, Path: "/instances/{id}/events", Extension: true, Query: paged,
			Summary: "List what happened to an instance and what its operations did, oldest first; also of a deleted one.",
			Success: http.StatusOK, Response: wire.InstanceEventList{}, handle: (*server).listEvents,
		},
		{
			ID: "showOperation", Method: http.MethodGet, Path: "/instances/{id}/operations/{operation}", Extension: true,
			Summary: "Show what an operation is doing. With wait the answer comes when something has changed since the given version.",
			Query: []Query{
				{"wait", "string", "how long to wait for a change, such as 30s; at most 60s"},
				{"since", "integer", "the version that the caller knows"},
			},
			Success: http.StatusOK, Response: wire.OperationBody{}, handle: (*server).showOperation,
		},
		{
			ID: "actOnOperation", Method: http.MethodPost, Path: "/instances/{id}/operations/{operation}/action", Extension: true,
			Summary: "Cancel an operation: it stops and removes what it made.", Schema: "operation-action.json",
			Success: http.StatusAccepted, handle: (*server).actOnOperation,
		},
	}
}

func databaseOperations() []Operation {
	const path = "/instances/{instance}/databases"
	return []Operation{
		{
			ID: "listDatabases", Method: http.MethodGet, Path: path, Rule: "instance:extension:database:index",
			Summary: "List the databases of an instance.", Query: paged,
			Success: http.StatusOK, Response: wire.DatabaseList{}, handle: (*server).listDatabases,
		},
		{
			ID: "createDatabases", Method: http.MethodPost, Path: path, Rule: "instance:extension:database:create", Schema: "databases-create.json",
			Summary: "Create databases.", Creates: true, Success: http.StatusAccepted, handle: (*server).createDatabases,
		},
		{
			ID: "showDatabase", Method: http.MethodGet, Path: path + "/{database}", Rule: "instance:extension:database:show",
			Summary: "Not implemented, as in Trove.", Success: http.StatusOK, handle: (*server).showDatabase,
		},
		{
			ID: "deleteDatabase", Method: http.MethodDelete, Path: path + "/{database}", Rule: "instance:extension:database:delete",
			Summary: "Delete a database with its data.", Success: http.StatusAccepted, handle: (*server).deleteDatabase,
		},
	}
}

func userOperations() []Operation {
	const path, one = "/instances/{instance}/users", "/instances/{instance}/users/{user}"
	return []Operation{
		{
			ID: "listUsers", Method: http.MethodGet, Path: path, Rule: "instance:extension:user:index", Summary: "List the users of an instance.",
			Query: paged, Success: http.StatusOK, Response: wire.UserList{}, handle: (*server).listUsers,
		},
		{
			ID: "createUsers", Method: http.MethodPost, Path: path, Rule: "instance:extension:user:create", Schema: "users-create.json",
			Summary: "Create users.", Creates: true, Success: http.StatusAccepted, handle: (*server).createUsers,
		},
		{
			ID: "changePasswords", Method: http.MethodPut, Path: path, Rule: "instance:extension:user:update_all", Schema: "users-passwords.json",
			Summary: "Change the passwords of users.", Success: http.StatusAccepted, handle: (*server).changePasswords,
		},
		{
			ID: "showUser", Method: http.MethodGet, Path: one, Rule: "instance:extension:user:show",
			Summary: "Show a user: name@host, or a name for the host %.",
			Success: http.StatusOK, Response: wire.UserBody{}, handle: (*server).showUser,
		},
		{
			ID: "updateUser", Method: http.MethodPut, Path: one, Rule: "instance:extension:user:update", Schema: "user-update.json",
			Summary: "Change name, host or password of a user.", Success: http.StatusAccepted, handle: (*server).updateUser,
		},
		{
			ID: "deleteUser", Method: http.MethodDelete, Path: one, Rule: "instance:extension:user:delete", Summary: "Delete a user.",
			Success: http.StatusAccepted, handle: (*server).deleteUser,
		},
		{
			ID: "listGrants", Method: http.MethodGet, Path: one + "/databases", Rule: "instance:extension:user_access:index",
			Summary: "List the databases that a user may use.", Success: http.StatusOK, Response: wire.DatabaseNames{}, handle: (*server).listGrants,
		},
		{
			ID: "grant", Method: http.MethodPut, Path: one + "/databases", Rule: "instance:extension:user_access:update", Schema: "user-grant.json",
			Summary: "Give a user all rights on databases.", Success: http.StatusAccepted, handle: (*server).grant,
		},
		{
			ID: "revoke", Method: http.MethodDelete, Path: one + "/databases/{database}", Rule: "instance:extension:user_access:delete",
			Summary: "Take a user's rights on a database.", Success: http.StatusAccepted, handle: (*server).revoke,
		},
	}
}

func rootOperations() []Operation {
	const path = "/instances/{instance}/root"
	return []Operation{
		{
			ID: "showRoot", Method: http.MethodGet, Path: path, Rule: "instance:extension:root:index", ByProject: true,
			Summary: "Say whether the superuser is enabled.", Success: http.StatusOK, Response: wire.RootEnabled{}, handle: (*server).showRoot,
		},
		{
			ID: "enableRoot", Method: http.MethodPost, Path: path, Rule: "instance:extension:root:create", ByProject: true,
			Schema: "root-enable.json", OptionalBody: true,
			Summary: "Enable the superuser with the given password or a new one. The answer alone shows it.",
			Creates: true, Secret: true, Success: http.StatusOK, Response: wire.RootBody{}, handle: (*server).enableRoot,
		},
		{
			ID: "disableRoot", Method: http.MethodDelete, Path: path, Rule: "instance:extension:root:delete", ByProject: true,
			Summary: "Disable the superuser.", Success: http.StatusNoContent, handle: (*server).disableRoot,
		},
	}
}

func logOperations() []Operation {
	const path, rule = "/instances/{instance}/log", "instance:guest_log_list"
	return []Operation{
		{
			ID: "listLogs", Method: http.MethodGet, Path: path, Rule: rule, Summary: "List the logs of an instance.",
			Success: http.StatusOK, Response: wire.LogList{}, handle: (*server).listLogs,
		},
		{
			ID: "actOnLog", Method: http.MethodPost, Path: path, Rule: rule, Schema: "log-action.json",
			Summary: "Show a log, or enable, disable, publish or discard it. To publish also enables, unless disable is asked for.",
			Success: http.StatusOK, Response: wire.LogBody{}, handle: (*server).actOnLog,
		},
		{
			ID: "listLogObjects", Method: http.MethodGet, Path: path + "/{log}/objects", Rule: rule, Extension: true,
			Summary: "List what was published of a log, oldest first.",
			Success: http.StatusOK, Response: wire.LogObjectList{}, handle: (*server).listLogObjects,
		},
		{
			ID: "readLog", Method: http.MethodGet, Path: path + "/{log}/contents", Rule: rule, Extension: true,
			Summary: "Read what was published of a log, as text. With lines only so many at the end.",
			Query:   []Query{{"lines", "integer", "the last lines only; at most 100000"}},
			Success: http.StatusOK, Text: true, handle: (*server).readLog,
		},
		{
			ID: "tailLog", Method: http.MethodGet, Path: path + "/{log}/tail", Rule: rule, Extension: true,
			Summary: "Follow a log of the running database. Without since the last lines come at once; with it the lines after that cursor, as soon as there are some.",
			Query: []Query{
				{"lines", "integer", "how many lines at the end come without since; 50, at most 1000"},
				{"since", "string", "the cursor of the answer before"},
				{"wait", "string", "how long to wait for lines, such as 30s; at most 60s"},
			},
			Success: http.StatusOK, Response: wire.LogTailBody{}, handle: (*server).tailLog,
		},
	}
}

func datastoreOperations() []Operation {
	return []Operation{
		{
			ID: "listDatastores", Method: http.MethodGet, Path: "/datastores", Rule: "datastore:index", Summary: "List the datastores with their versions.",
			Success: http.StatusOK, Response: wire.DatastoreList{}, handle: (*server).listDatastores,
		},
		{
			ID: "showDatastore", Method: http.MethodGet, Path: "/datastores/{datastore}", Rule: "datastore:show", Summary: "Show a datastore by id or name.",
			Success: http.StatusOK, Response: wire.DatastoreBody{}, handle: (*server).showDatastore,
		},
		{
			ID: "deleteDatastore", Method: http.MethodDelete, Path: "/datastores/{datastore}", Rule: "datastore:delete",
			Summary: "Delete a datastore that has no versions.", Success: http.StatusAccepted, handle: (*server).deleteDatastore,
		},
		{
			ID: "listVersions", Method: http.MethodGet, Path: "/datastores/{datastore}/versions", Rule: "datastore:version_index",
			Summary: "List the versions of a datastore.",
			Success: http.StatusOK, Response: wire.DatastoreVersionList{}, handle: (*server).listVersions,
		},
		{
			ID: "showVersion", Method: http.MethodGet, Path: "/datastores/{datastore}/versions/{version}", Rule: "datastore:version_show",
			Summary: "Show a datastore version by id or name.",
			Success: http.StatusOK, Response: wire.DatastoreVersionBody{}, handle: (*server).showVersion,
		},
		{
			ID: "showVersionByID", Method: http.MethodGet, Path: "/datastores/versions/{version}", Rule: "datastore:version_show_by_uuid",
			Summary: "Show a datastore version by id alone.",
			Success: http.StatusOK, Response: wire.DatastoreVersionBody{}, handle: (*server).showVersionByID,
		},
		{
			ID: "listVersionFlavors", Method: http.MethodGet, Path: "/datastores/{datastore}/versions/{version}/flavors",
			Rule: "datastore:list_associated_flavors", Summary: "List the flavors that a version allows.",
			Success: http.StatusOK, Response: wire.FlavorList{}, handle: (*server).listVersionFlavors,
		},
		{
			ID: "listVersionVolumeTypes", Method: http.MethodGet, Path: "/datastores/{datastore}/versions/{version}/volume-types",
			Rule: "datastore:list_associated_volume_types", Summary: "List the volume types that a version allows.",
			Success: http.StatusOK, Response: wire.VolumeTypeList{}, handle: (*server).listVersionVolumeTypes,
		},
	}
}

func hostOperations() []Operation {
	return []Operation{{
		ID: "hostStatus", Method: http.MethodGet, Path: "/mgmt/host-status", Rule: "host:status", Extension: true,
		Summary: "Say how much memory, cores, space and addresses the machines have, and what of it is promised, used and left; administrators only.",
		Success: http.StatusOK, Response: wire.HostList{}, handle: (*server).hostStatus,
	}}
}

func limitOperations() []Operation {
	return []Operation{
		{
			ID: "listFlavors", Method: http.MethodGet, Path: "/flavors", Rule: "flavor:index", Summary: "List the flavors.",
			Success: http.StatusOK, Response: wire.FlavorList{}, handle: (*server).listFlavors,
		},
		{
			ID: "showFlavor", Method: http.MethodGet, Path: "/flavors/{flavor}", Rule: "flavor:show", Summary: "Show a flavor.",
			Success: http.StatusOK, Response: wire.FlavorBody{}, handle: (*server).showFlavor,
		},
		{
			ID: "showLimits", Method: http.MethodGet, Path: "/limits", Rule: "limits:index", Summary: "Show the project's quotas and call rates.",
			Success: http.StatusOK, Response: wire.Limits{}, handle: (*server).showLimits,
		},
		{
			ID: "showQuotas", Method: http.MethodGet, Path: "/mgmt/quotas/{tenant}", Summary: "Show a project's quotas: the own one's, or any for administrators.",
			Success: http.StatusOK, Response: wire.QuotaList{}, handle: (*server).showQuotas,
		},
		{
			ID: "updateQuotas", Method: http.MethodPut, Path: "/mgmt/quotas/{tenant}", Schema: "quotas-update.json",
			Summary: "Set a project's quotas; administrators only. -1 is unlimited, what is null stays.",
			Success: http.StatusOK, Response: wire.QuotaUpdate{}, handle: (*server).updateQuotas,
		},
	}
}

func agentOperations() []Operation {
	return []Operation{
		{
			ID: "listAgents", Method: http.MethodGet, Path: "/mgmt/agents", Rule: "mgmt:agents", Extension: true,
			Summary: "List the guest agents of all projects' instances with their versions; administrators only.",
			Query:   paged, Success: http.StatusOK, Response: wire.AgentList{}, handle: (*server).listAgents,
		},
	}
}

package wire

// Module is a module. LiveUpdate is there where one module is shown, InstanceCount in GET of it, Contents only in an instance's list that asks for it.
type Module struct {
	ID                 string   `json:"id"`
	Name               string   `json:"name"`
	Type               string   `json:"type"`
	Description        Nullable `json:"description"`
	TenantID           Nullable `json:"tenant_id"` // null: every project
	DatastoreID        Nullable `json:"datastore_id"`
	DatastoreVersionID Nullable `json:"datastore_version_id"`
	AutoApply          bool     `json:"auto_apply"`
	PriorityApply      bool     `json:"priority_apply"`
	ApplyOrder         int      `json:"apply_order"`
	IsAdmin            bool     `json:"is_admin"`
	MD5                string   `json:"md5"`
	Visible            bool     `json:"visible"`
	Created            Time     `json:"created"`
	Updated            Time     `json:"updated"`
	Tenant             string   `json:"tenant"`            // the id, or "all"
	Datastore          string   `json:"datastore"`         // the name, or "all"
	DatastoreVersion   string   `json:"datastore_version"` // the name, or "all"
	LiveUpdate         *bool    `json:"live_update,omitempty"`
	InstanceCount      *int     `json:"instance_count,omitempty"`
	Contents           *string  `json:"contents,omitempty"`
}

// ModuleBody wraps one module.
type ModuleBody struct {
	Module Module `json:"module"`
}

// ModuleList is a page of modules.
type ModuleList struct {
	Modules []Module `json:"modules"`
	Links   []Link   `json:"links,omitempty"`
}

// ModuleChangeBody is the body of POST /modules and PUT /modules/{id}.
type ModuleChangeBody struct {
	Module ModuleChange `json:"module"`
}

// ModuleChange is a wanted module, or what shall change of one; what is nil or empty stays. Of the numbers 1 is yes and 0 is no.
type ModuleChange struct {
	Name                 string           `json:"name,omitempty"`
	Type                 string           `json:"module_type,omitempty"`
	Contents             string           `json:"contents,omitempty"` // in base64
	Description          string           `json:"description,omitempty"`
	Datastore            *ModuleDatastore `json:"datastore,omitempty"`
	AllDatastores        *int             `json:"all_datastores,omitempty"`         // PUT only
	AllDatastoreVersions *int             `json:"all_datastore_versions,omitempty"` // PUT only
	AllTenants           *int             `json:"all_tenants,omitempty"`
	AutoApply            *int             `json:"auto_apply,omitempty"`
	Visible              *int             `json:"visible,omitempty"`
	LiveUpdate           *int             `json:"live_update,omitempty"`
	PriorityApply        *int             `json:"priority_apply,omitempty"`
	FullAccess           *int             `json:"full_access,omitempty"`
	ApplyOrder           *int             `json:"apply_order,omitempty"`
}

// ModuleDatastore says for which datastore and version a module is, each by id or name.
type ModuleDatastore struct {
	Type    string `json:"type,omitempty"`
	Version string `json:"version,omitempty"`
}

// ModuleCount says how many instances have a module in one state of its contents: the answer to GET /modules/{id}/instances with count_only.
type ModuleCount struct {
	ModuleName    string `json:"module_name"`
	ModuleID      string `json:"module_id"`
	ModuleMD5     string `json:"module_md5"`
	InstanceCount int    `json:"instance_count"`
	Current       bool   `json:"current"`
	MinUpdated    Time   `json:"min_updated_date"`
	MaxUpdated    Time   `json:"max_updated_date"`
}

// ModuleCounts holds all counts of a module.
type ModuleCounts struct {
	Instances []ModuleCount `json:"instances"`
}

// ModuleReapplyBody is the body of PUT /modules/{id}/instances.
type ModuleReapplyBody struct {
	Reapply ModuleReapply `json:"reapply"`
}

// ModuleReapply says to which instances a module is applied again.
type ModuleReapply struct {
	MD5              string `json:"md5,omitempty"`
	IncludeClustered int    `json:"include_clustered,omitempty"`
	BatchSize        int    `json:"batch_size,omitempty"`
	BatchDelay       int    `json:"batch_delay,omitempty"`
	Force            int    `json:"force,omitempty"`
}

// ModuleRefs is the body of POST /instances/{id}/modules.
type ModuleRefs struct {
	Modules []ModuleRef `json:"modules"`
}

// ModuleRef names a module.
type ModuleRef struct {
	ID string `json:"id"`
}

package wire

import "encoding/json"

// ConfigurationGroup is a configuration group. Values, InstanceCount and DatastoreVersionNumber are absent in lists.
type ConfigurationGroup struct {
	ID                     string          `json:"id"`
	Name                   string          `json:"name"`
	Description            Nullable        `json:"description"`
	Values                 *map[string]any `json:"values,omitempty"`
	Created                Time            `json:"created"`
	Updated                Time            `json:"updated"`
	InstanceCount          *int            `json:"instance_count,omitempty"`
	DatastoreName          string          `json:"datastore_name"`
	DatastoreVersionID     string          `json:"datastore_version_id"`
	DatastoreVersionName   string          `json:"datastore_version_name"`
	DatastoreVersionNumber string          `json:"datastore_version_number,omitempty"`
}

// ConfigurationGroupBody wraps one configuration group.
type ConfigurationGroupBody struct {
	Configuration ConfigurationGroup `json:"configuration"`
}

// ConfigurationGroupList is a page; ConfigurationsLinks is the key that gophercloud would read.
type ConfigurationGroupList struct {
	Configurations      []ConfigurationGroup `json:"configurations"`
	Links               []Link               `json:"links,omitempty"`
	ConfigurationsLinks []Link               `json:"configurations_links,omitempty"`
}

// ConfigurationCreateBody is the body of POST /configurations.
type ConfigurationCreateBody struct {
	Configuration ConfigurationCreate `json:"configuration"`
}

// ConfigurationCreate is a wanted configuration group.
type ConfigurationCreate struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Values      map[string]any   `json:"values"`
	Datastore   *DatastoreChoice `json:"datastore,omitempty"`
}

// ConfigurationUpdateBody is the body of PUT and PATCH /configurations/{id}.
type ConfigurationUpdateBody struct {
	Configuration ConfigurationUpdate `json:"configuration"`
}

// ConfigurationUpdate changes a group; what is nil stays. PUT replaces all values, PATCH merges.
type ConfigurationUpdate struct {
	Name        *string         `json:"name,omitempty"`
	Description *string         `json:"description,omitempty"`
	Values      *map[string]any `json:"values,omitempty"`
}

// ConfiguredInstance names an instance that has a group.
type ConfiguredInstance struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// ConfiguredInstanceList is a page of the instances of a group.
type ConfiguredInstanceList struct {
	Instances      []ConfiguredInstance `json:"instances"`
	Links          []Link               `json:"links,omitempty"`
	InstancesLinks []Link               `json:"instances_links,omitempty"`
}

// DefaultConfigurationBody is what an instance has before a group is attached: numbers are integers, all else is text.
type DefaultConfigurationBody struct {
	Instance DefaultConfiguration `json:"instance"`
}

// DefaultConfiguration holds the values by parameter.
type DefaultConfiguration struct {
	Configuration map[string]any `json:"configuration"`
	Drift         []Difference   `json:"drift,omitempty"` // not in Trove: what somebody changed in the running database
}

// Parameter is the rule for a parameter. Limits are numbers of any size.
type Parameter struct {
	Name               string       `json:"name"`
	DatastoreVersionID string       `json:"datastore_version_id"`
	RestartRequired    bool         `json:"restart_required"`
	Type               string       `json:"type"`
	Max                *json.Number `json:"max,omitempty"`
	Min                *json.Number `json:"min,omitempty"`
}

// ParameterList holds all parameters of a version.
type ParameterList struct {
	Parameters []Parameter `json:"configuration-parameters"`
}

// ManagedParameter is a Parameter as administrators see it.
type ManagedParameter struct {
	Name               string       `json:"name"`
	DatastoreVersionID string       `json:"datastore_version_id"`
	RestartRequired    bool         `json:"restart_required"`
	Type               string       `json:"type"`
	MaxSize            *json.Number `json:"max_size,omitempty"`
	MinSize            *json.Number `json:"min_size,omitempty"`
}

// ManagedParameterList holds all parameters of a version.
type ManagedParameterList struct {
	Parameters []ManagedParameter `json:"configuration-parameters"`
}

// ManagedVersion is a datastore version as administrators see it. Image is null when there is none; lists that are empty hold one empty text.
type ManagedVersion struct {
	ID               string   `json:"id"`
	Name             string   `json:"name"`
	Version          string   `json:"version"`
	DatastoreID      string   `json:"datastore_id"`
	DatastoreName    string   `json:"datastore_name"`
	DatastoreManager string   `json:"datastore_manager"`
	Image            Nullable `json:"image"`
	ImageTags        []string `json:"image_tags"`
	Packages         []string `json:"packages"`
	Active           bool     `json:"active"`
	Default          bool     `json:"default"`
	RequireTLS       bool     `json:"require_tls,omitempty"` // ours: databases of it let nobody in without TLS
}

// ManagedVersionBody wraps one datastore version.
type ManagedVersionBody struct {
	Version ManagedVersion `json:"version"`
}

// ManagedVersionList holds all datastore versions.
type ManagedVersionList struct {
	Versions []ManagedVersion `json:"versions"`
}

// VersionCreateBody is the body of POST /mgmt/datastore-versions.
type VersionCreateBody struct {
	Version VersionCreate `json:"version"`
}

// VersionCreate is a wanted datastore version. Version is the number, Name unless given.
type VersionCreate struct {
	Name             string   `json:"name"`
	DatastoreName    string   `json:"datastore_name"`
	DatastoreManager string   `json:"datastore_manager"`
	Active           bool     `json:"active"`
	Image            string   `json:"image,omitempty"`
	ImageTags        []string `json:"image_tags,omitempty"`
	Packages         []string `json:"packages,omitempty"`
	Default          bool     `json:"default,omitempty"`
	Version          string   `json:"version,omitempty"`
	RequireTLS       bool     `json:"require_tls,omitempty"`
}

// VersionUpdate is the body of PATCH /mgmt/datastore-versions/{id}; what is nil stays.
type VersionUpdate struct {
	Name             *string   `json:"name,omitempty"`
	DatastoreManager *string   `json:"datastore_manager,omitempty"`
	Image            *string   `json:"image,omitempty"`
	ImageTags        *[]string `json:"image_tags,omitempty"`
	Packages         *[]string `json:"packages,omitempty"`
	Active           *bool     `json:"active,omitempty"`
	Default          *bool     `json:"default,omitempty"`
	RequireTLS       *bool     `json:"require_tls,omitempty"`
}

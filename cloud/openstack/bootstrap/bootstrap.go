// Package bootstrap prepares an OpenStack for Trove and says what is missing: the service user, the management network with its subnet, security groups
// and the way by which controllers and guests reach each other, flavors, quotas, images and datastore versions, and the endpoints of the catalogue.
//
// It has three parts. Look reads what is there, with queries for names, and changes nothing. Plan compares that with what is wanted and returns steps; it is a
// function of its arguments alone. Apply carries the steps out, in their order, and may be cut off anywhere: the next Look finds what was made, by name. What is
// there and is not as wanted is mended where that harms nobody; what others may depend on (a password, a range of addresses, an endpoint) is refused with
// a sentence. Nothing is ever deleted but rules of the management security groups.
//
// Values of this package belong to one goroutine.
package bootstrap

import (
	"net/netip"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// Mark is the description of what this package made: it changes nothing else than that, and rules.
const Mark = "Trove: controllers and guests"

// Part is a kind of thing that is prepared.
type Part string

// The parts, in their order.
const (
	PartProject   Part = "project"
	PartUser      Part = "user"
	PartRole      Part = "role"
	PartNetwork   Part = "network"
	PartSubnet    Part = "subnet"
	PartGroup     Part = "security-group"
	PartPort      Part = "controller-port"
	PartInterface Part = "interface"
	PartFlavor    Part = "flavor"
	PartQuota     Part = "quota"
	PartImage     Part = "image"
	PartVersion   Part = "datastore-version"
	PartEndpoint  Part = "endpoint"
	PartConfig    Part = "configuration"
)

// Parts are all of them.
var Parts = []Part{
	PartProject, PartUser, PartRole, PartNetwork, PartSubnet, PartGroup, PartPort, PartInterface, PartFlavor, PartQuota, PartImage, PartVersion, PartEndpoint,
	PartConfig,
}

// State says where a thing stands.
type State string

// The states of a thing.
const (
	There   State = "there"   // as wanted
	Make    State = "make"    // it is not there, and will be made
	Change  State = "change"  // it is there, and will be mended
	Yours   State = "yours"   // the operator has to do it: the detail says how
	Refused State = "refused" // it cannot be had in this way: the detail says why
)

// Step is one thing of a plan.
type Step struct {
	Part   Part
	Name   string
	State  State
	Detail string
	Action Action // nil unless State is Make or Change
}

// Wanted is what shall be there.
type Wanted struct {
	Only []Part // empty: all parts

	Region  string
	AuthURL string // of Keystone, for the service
	CAFile  string // "": the certificate authorities of this machine

	User, UserDomain, Project, ProjectDomain string

	Role          string // that the user has in the project
	PasswordFile  string
	PasswordName  string // what the configuration calls the file; "": its path
	ResetPassword bool   // set the user's password to what is in the file, whoever may use the present one

	Network         string // name or id
	NetworkType     string // "": Neutron's default
	PhysicalNetwork string
	Segment         int // 0: Neutron chooses
	CIDR            netip.Prefix
	DHCP            bool
	Via             netip.Addr   // address in the subnet by which controllers outside are reached; zero: they are in it
	Controllers     []netip.Addr // empty: the address that this host has, or the first one of the subnet
	Size            Size

	Group           string
	ControllerGroup string
	Ports           []int // of the controllers, which guests may reach

	Host      string // name of this host, as Neutron's agent on it calls itself
	Interface string // name of the interface to make on this host; "": none

	Flavors        []Flavor
	PrivateFlavors bool
	VolumeGiB      int // of each guest, as far as quotas go

	Images []ImageFile

	Endpoints        map[string]string // by interface
	ServiceName      string
	ReplaceEndpoints bool

	ConfigFile string // to write what the service needs to know into; "": none
}

// Has reports whether a part is wanted.
func (w Wanted) Has(p Part) bool {
	if len(w.Only) == 0 {
		return true
	}
	return slices.Contains(w.Only, p)
}

// Flavor is a size of machines.
type Flavor struct {
	ID     string `json:"id,omitempty"`
	Name   string `json:"name"`
	RAM    int    `json:"ram"` // MiB
	VCPUs  int    `json:"vcpus"`
	Disk   int    `json:"disk"` // GiB, for the root
	Public bool   `json:"os-flavor-access:is_public"`
}

// DefaultFlavors are those of Trove on one machine, with a root disk that an image fits on.
func DefaultFlavors() []Flavor {
	return []Flavor{
		{Name: "db.tiny", RAM: 512, VCPUs: 1, Disk: 4},
		{Name: "db.small", RAM: 2048, VCPUs: 1, Disk: 4},
		{Name: "db.medium", RAM: 4096, VCPUs: 2, Disk: 4},
		{Name: "db.large", RAM: 8192, VCPUs: 2, Disk: 4},
	}
}

// ImageFile is an image on this machine with what was written beside it when it was built.
type ImageFile struct {
	Path       string
	Manifest   imagelayout.Manifest
	Format     string // qcow2
	MinDisk    int    // GiB
	MinRAM     int    // MiB
	Size       int64
	SHA256     string
	Properties map[string]string
}

// Name is what Glance calls it.
func (i ImageFile) Name() string {
	return "trove-" + i.Manifest.Datastore + "-" + i.Manifest.Version + "-" + i.Manifest.ID[:min(8, len(i.Manifest.ID))]
}

// Found is what is there.
type Found struct {
	ProjectDomainID, UserDomainID string

	Projects []Named
	Users    []Named
	RoleID   string // "": Keystone has no such role
	Granted  bool
	Password PasswordState

	Networks []Network
	Others   []Network // of the network's name, of projects that are neither the service's nor the administrator's, and not shared
	Subnets  []Subnet  // of the first network
	Groups   []Group   // of the name of Wanted.Group, in the project
	Guards   []Group   // of the name of Wanted.ControllerGroup
	Ports    []Port    // of this host's controller
	Agents   []string  // kinds of Neutron's agents that live on this host

	Host HostNet

	Flavors  []Flavor
	Access   []string // ids of the private flavors that the project may use
	Quotas   []Quota
	Images   []Image
	Versions map[string]string // Glance's image by the manifest's id, of versions that are registered

	Services  []Named
	Endpoints []Endpoint

	Config map[string]string // what stands in the configuration file, by key such as openstack.auth_url
}

// Named is a thing of which nothing else matters.
type Named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// PasswordState is what is known of the service user's password.
type PasswordState string

// The states of the password.
const (
	NoPassword    PasswordState = ""        // there is no file
	PasswordGood  PasswordState = "good"    // the user can log in with what is in the file
	PasswordWrong PasswordState = "wrong"   // it cannot
	PasswordOpen  PasswordState = "open"    // others than the owner can read the file
	PasswordKnown PasswordState = "unknown" // there is a file, and no user yet
)

// Network is a network as Neutron has it.
type Network struct {
	ID          string   `json:"id,omitempty"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	ProjectID   string   `json:"project_id,omitempty"`
	Up          bool     `json:"admin_state_up"`
	Shared      bool     `json:"shared"`
	External    bool     `json:"router:external,omitempty"`
	MTU         int      `json:"mtu,omitempty"`
	Security    *bool    `json:"port_security_enabled,omitempty"` // nil: Neutron has no such extension
	Type        string   `json:"provider:network_type,omitempty"`
	Physical    string   `json:"provider:physical_network,omitempty"`
	Segment     int      `json:"provider:segmentation_id,omitempty"`
	Subnets     []string `json:"subnets,omitempty"`
}

// Pool is a range of addresses that Neutron gives out.
type Pool struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// Route is a route that machines of a subnet get.
type Route struct {
	Destination string `json:"destination"`
	NextHop     string `json:"nexthop"`
}

// Subnet is a subnet as Neutron has it.
type Subnet struct {
	ID          string       `json:"id,omitempty"`
	Name        string       `json:"name"`
	Description string       `json:"description"`
	NetworkID   string       `json:"network_id,omitempty"`
	ProjectID   string       `json:"project_id,omitempty"`
	IPVersion   int          `json:"ip_version,omitempty"`
	CIDR        netip.Prefix `json:"cidr"`
	Gateway     *string      `json:"gateway_ip"`
	DHCP        bool         `json:"enable_dhcp"`
	DNS         []string     `json:"dns_nameservers"`
	Pools       []Pool       `json:"allocation_pools"`
	Routes      []Route      `json:"host_routes"`
	Used        int          `json:"-"` // addresses that are in use
	Total       int          `json:"-"` // addresses that can be given out
}

// Group is a security group as Neutron has it.
type Group struct {
	ID          string `json:"id,omitempty"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Rules       []Rule `json:"security_group_rules,omitempty"`
}

// Rule is a rule of a security group.
type Rule struct {
	ID          string `json:"id,omitempty"`
	Direction   string `json:"direction"`
	EtherType   string `json:"ethertype"`
	Protocol    string `json:"protocol,omitempty"`
	PortMin     int    `json:"port_range_min,omitempty"`
	PortMax     int    `json:"port_range_max,omitempty"`
	Remote      string `json:"remote_ip_prefix,omitempty"`
	RemoteGroup string `json:"remote_group_id,omitempty"`
}

// Port is a port as Neutron has it.
type Port struct {
	ID        string    `json:"id,omitempty"`
	Name      string    `json:"name"`
	MAC       string    `json:"mac_address,omitempty"`
	Status    string    `json:"status,omitempty"`
	HostID    string    `json:"binding:host_id,omitempty"`
	VIF       string    `json:"binding:vif_type,omitempty"`
	Addresses []FixedIP `json:"fixed_ips,omitempty"`
	Groups    []string  `json:"security_groups"`
}

// FixedIP is an address of a port.
type FixedIP struct {
	SubnetID string     `json:"subnet_id"`
	Address  netip.Addr `json:"ip_address"`
}

// Quota is how much of something the project may have.
type Quota struct {
	Service  string // compute, volume, network
	Resource string
	Limit    int // -1: no limit
	Used     int
}

// Image is an image as Glance has it.
type Image struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Status    string `json:"status"`
	Hidden    bool   `json:"os_hidden"`
	Trove     string `json:"trove_image"` // the manifest's id
	Datastore string `json:"trove_datastore"`
	Version   string `json:"trove_version"`
	Size      int64  `json:"size"`
}

// Endpoint is an endpoint of the catalogue.
type Endpoint struct {
	ID        string `json:"id,omitempty"`
	Interface string `json:"interface"`
	Region    string `json:"region_id"`
	ServiceID string `json:"service_id,omitempty"`
	URL       string `json:"url"`
	Enabled   bool   `json:"enabled"`
}

// HostNet is the network of this host as it matters here.
type HostNet struct {
	Addresses []HostAddress
	// Routes are what else this host reaches directly or by routes of its own, the default route apart: a new range must not be part of it.
	Routes []netip.Prefix
	// Bridges says that Neutron's Linux bridge agent has bridges here, Guarded is which of them let nothing into this host.
	Bridges bool
	Guarded []string
}

// HostAddress is an address of this host.
type HostAddress struct {
	Interface string
	Prefix    netip.Prefix
}

// password is what a new service user logs in with.
type password = trove.Secret

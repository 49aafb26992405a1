package config

import (
	"fmt"
	"slices"
	"time"
)

// The clouds that instances can be made in.
const (
	CloudLocal     = "local"
	CloudOpenStack = "openstack"
)

// OpenStack configures the OpenStack that instances are made in; it is for cloud: openstack.
type OpenStack struct {
	AuthURL       string `yaml:"auth_url" doc:"URL of Keystone, as http://keystone:5000/v3."`
	Username      string `yaml:"username" doc:"User that servers, volumes and ports are made with. It needs the role admin in its project: an ordinary user makes no port on the network of another project."`
	PasswordFile  string `yaml:"password_file" doc:"File with its password, mode 0600; relative to the state directory. It is read at each login."`
	UserDomain    string `yaml:"user_domain" doc:"Name of the domain of that user."`
	Project       string `yaml:"project" doc:"Project that servers, volumes and management ports are made in; tenants do not see them."`
	ProjectDomain string `yaml:"project_domain" doc:"Name of the domain of that project."`
	Interface     string `yaml:"interface" doc:"Endpoints of the catalogue that are used: internal, public or admin, of the region that region names."`
	CAFile        string `yaml:"ca_file" doc:"File with certificates in PEM by which those of OpenStack are verified; empty: those of this machine."`

	ManagementNetwork       string `yaml:"management_network" doc:"Name or id of the network where guests reach the controllers."`
	ManagementSecurityGroup string `yaml:"management_security_group" doc:"Name or id of the security group of the guests' ports there."`
	ManagementIsolation     bool   `yaml:"management_isolation" doc:"Guests keep the management port in a network namespace of its own, apart from the database."`
	PublicNetwork           string `yaml:"public_network" doc:"Name or id of the external network that instances with is_public get a floating IP of; empty: is_public is refused."`
	DefaultNetwork          string `yaml:"default_network" doc:"Name or id of the network of instances whose request names none; empty: the only network that the caller can use, and a request of one who has several is refused."`

	AvailabilityZone string `yaml:"availability_zone" doc:"Zone of instances whose request names none; empty: Nova chooses."`
	VolumeType       string `yaml:"volume_type" doc:"Type of volumes of requests that name none; empty: Cinder's default."`
	VolumeInZone     bool   `yaml:"volume_in_zone" doc:"Volumes are made in Cinder's zone of the same name as the server's: needed where Nova lets a server have volumes of its own zone alone (cross_az_attach). False: in Cinder's default zone."`
	DNSZone          string `yaml:"dns_zone" doc:"Zone of Designate where instances get their names, with a dot at its end; empty: they get none."`

	RequestTimeout time.Duration `yaml:"request_timeout" doc:"How long one request to a service of OpenStack may take."`
	BootTimeout    time.Duration `yaml:"boot_timeout" doc:"How long a server may take from its create to the first call of its guest."`
	VolumeTimeout  time.Duration `yaml:"volume_timeout" doc:"How long a volume may take to be made, grown, attached."`
	PortTimeout    time.Duration `yaml:"port_timeout" doc:"How long the ports of an instance may take to be made and bound."`
	ResizeTimeout  time.Duration `yaml:"resize_timeout" doc:"How long the change of a server's flavor may take, the new start included."`
}

func defaultOpenStack() OpenStack {
	return OpenStack{ //nolint:gosec // the name of a file is no password
		Username: "trove", PasswordFile: "keys/openstack-password", UserDomain: "Default", Project: "service", ProjectDomain: "Default", Interface: "internal",
		ManagementNetwork: "trove-management", ManagementSecurityGroup: "trove-management", ManagementIsolation: true,
		RequestTimeout: time.Minute, BootTimeout: 10 * time.Minute, VolumeTimeout: 10 * time.Minute, PortTimeout: 5 * time.Minute,
		ResizeTimeout: 15 * time.Minute,
	}
}

// checkCloud looks at which cloud there is and, where it is OpenStack, at what that needs.
func (c Config) checkCloud() error {
	switch c.Cloud {
	case CloudLocal:
		return nil
	case CloudOpenStack:
	default:
		return fmt.Errorf("cloud: %q is neither local nor openstack", c.Cloud)
	}
	if c.Identity.Driver != IdentityKeystone {
		return fmt.Errorf("identity.driver: %q does not go with cloud openstack: what a caller names there is looked at with his own token, which is Keystone's", c.Identity.Driver)
	}
	return c.OpenStack.check()
}

func (o OpenStack) check() error {
	if !isURL(o.AuthURL) {
		return fmt.Errorf("openstack.auth_url: %q is not a URL such as http://keystone:5000/v3", o.AuthURL)
	}
	for _, k := range []struct{ key, value string }{
		{"username", o.Username},
		{"password_file", o.PasswordFile},
		{"user_domain", o.UserDomain},
		{"project", o.Project},
		{"project_domain", o.ProjectDomain},
		{"management_network", o.ManagementNetwork},
		{"management_security_group", o.ManagementSecurityGroup},
	} {
		if k.value == "" {
			return fmt.Errorf("openstack.%s: it must not be empty", k.key)
		}
	}
	if !slices.Contains([]string{"internal", "public", "admin"}, o.Interface) {
		return fmt.Errorf("openstack.interface: %q is none of internal, public, admin", o.Interface)
	}
	for _, k := range []struct {
		key   string
		value time.Duration
	}{
		{"request_timeout", o.RequestTimeout},
		{"boot_timeout", o.BootTimeout},
		{"volume_timeout", o.VolumeTimeout},
		{"port_timeout", o.PortTimeout},
		{"resize_timeout", o.ResizeTimeout},
	} {
		if k.value < time.Second || k.value > 24*time.Hour {
			return fmt.Errorf("openstack.%s: %s is not between 1s and 24h", k.key, k.value)
		}
	}
	return nil
}

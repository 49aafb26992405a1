package config

import (
	"fmt"
	"net/url"
	"slices"
	"time"
)

// The drivers of identity.
const (
	IdentityLocal    = "local"
	IdentityKeystone = "keystone"
)

// Identity configures who checks the tokens of callers. All but the driver is for Keystone.
type Identity struct {
	Driver        string   `yaml:"driver" doc:"Who knows users and tokens: local (this service itself) or keystone. What follows is for keystone."`
	AuthURL       string   `yaml:"auth_url" doc:"URL of Keystone, as http://keystone:5000/v3, for this service."`
	PublicAuthURL string   `yaml:"public_auth_url" doc:"URL of Keystone that clients without a valid token are told; empty: auth_url."`
	Username      string   `yaml:"username" doc:"User with which the service asks about tokens; it needs the role service or admin in its project."`
	PasswordFile  string   `yaml:"password_file" doc:"File with its password, mode 0600; relative to the state directory. It is read at each login."`
	Project       string   `yaml:"project" doc:"Project of that user."`
	UserDomain    string   `yaml:"user_domain" doc:"Name of the domain of that user."`
	ProjectDomain string   `yaml:"project_domain" doc:"Name of the domain of that project."`
	Region        string   `yaml:"region" doc:"Region of Keystone's endpoint in its catalogue; empty: any."`
	Interface     string   `yaml:"interface" doc:"Endpoint of Keystone that tokens are checked at: internal, public or admin."`
	CAFile        string   `yaml:"ca_file" doc:"File with certificates in PEM by which Keystone's certificate is verified; empty: those of this machine."`
	ServiceRoles  []string `yaml:"service_roles" doc:"Roles of which a service needs one so that its service token is taken, and lets a user's token pass that has expired meanwhile."`

	ServiceRolesRequired bool `yaml:"service_roles_required" doc:"Refuse requests with a service token of somebody without these roles; false: take it, but let nothing expired pass."`

	CacheTime time.Duration `yaml:"cache_time" doc:"How long a token is taken for valid without asking again, and a revoked one may still work; at most 1h."`
	CacheSize int           `yaml:"cache_size" doc:"How many tokens are known at a time."`
	Timeout   time.Duration `yaml:"timeout" doc:"How long Keystone may take to check a token, before the caller gets a 503."`
}

func defaultIdentity() Identity {
	return Identity{
		Driver: IdentityLocal, Username: "trove", PasswordFile: "keys/keystone-password", Project: "service", UserDomain: "Default", ProjectDomain: "Default",
		Interface: "internal", ServiceRoles: []string{"service"}, ServiceRolesRequired: true, CacheTime: 5 * time.Minute, CacheSize: 10_000,
		Timeout: 10 * time.Second,
	}
}

func (i Identity) check() error {
	switch i.Driver {
	case IdentityLocal:
		return nil
	case IdentityKeystone:
	default:
		return fmt.Errorf("identity.driver: %q is neither local nor keystone", i.Driver)
	}
	if !isURL(i.AuthURL) {
		return fmt.Errorf("identity.auth_url: %q is not a URL such as http://keystone:5000/v3", i.AuthURL)
	}
	if i.PublicAuthURL != "" && !isURL(i.PublicAuthURL) {
		return fmt.Errorf("identity.public_auth_url: %q is not a URL such as https://keystone.example/v3", i.PublicAuthURL)
	}
	for _, k := range []struct{ key, value string }{
		{"username", i.Username},
		{"password_file", i.PasswordFile},
		{"project", i.Project},
		{"user_domain", i.UserDomain},
		{"project_domain", i.ProjectDomain},
	} {
		if k.value == "" {
			return fmt.Errorf("identity.%s: Keystone needs one", k.key)
		}
	}
	if !slices.Contains([]string{"internal", "public", "admin"}, i.Interface) {
		return fmt.Errorf("identity.interface: %q is none of internal, public, admin", i.Interface)
	}
	if i.CacheTime < time.Second || i.CacheTime > time.Hour {
		return fmt.Errorf("identity.cache_time: %s is not between 1s and 1h", i.CacheTime)
	}
	if i.CacheSize < 1 {
		return fmt.Errorf("identity.cache_size: %d is less than 1", i.CacheSize)
	}
	if i.Timeout < 100*time.Millisecond || i.Timeout > time.Minute {
		return fmt.Errorf("identity.timeout: %s is not between 100ms and 1m", i.Timeout)
	}
	return nil
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

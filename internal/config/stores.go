package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Where objects can be.
const (
	ObjectsFile  = "file"
	ObjectsSwift = "swift"
)

// The accounts of Swift that objects of projects can be in.
const (
	AccountsProject = "project"
	AccountsService = "service"
)

// MasterKeyFile is a master key in the state directory, or that systemd hands over.
const MasterKeyFile = "file"

// Secrets configures the master key, which everything secret in the store is sealed under.
type Secrets struct {
	MasterKey string `yaml:"master_key" doc:"Where the master key is: file (keys/master.key in the state directory, or the credential that systemd hands over) or barbican:NAME (secrets of that name in Barbican, in the project of openstack)."`
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// BarbicanName returns the name of the secrets in Barbican that are the master key, "" if it is in a file.
func (s Secrets) BarbicanName() string {
	name, ok := strings.CutPrefix(s.MasterKey, "barbican:")
	if !ok {
		return ""
	}
	return name
}

var containerPrefix = regexp.MustCompile(`^[A-Za-z0-9_.-]{0,64}$`)

// checkStores looks at where objects and the master key are, and at the login of what is in OpenStack.
func (c Config) checkStores() error {
	needed := ""
	switch c.Objects.Store {
	case ObjectsFile:
	case ObjectsSwift:
		needed = "objects.store: swift"
		if err := c.checkSwift(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("objects.store: %q is neither file nor swift", c.Objects.Store)
	}
	switch {
	case c.Secrets.MasterKey == MasterKeyFile:
	case secretName.MatchString(c.Secrets.BarbicanName()):
		needed = "secrets.master_key: barbican"
	default:
		return fmt.Errorf("secrets.master_key: %q is neither file nor barbican:NAME, with a name of letters, digits, dots, - and _", c.Secrets.MasterKey)
	}
	if needed == "" || c.Cloud == CloudOpenStack { // the login was looked at
		return nil
	}
	if err := c.OpenStack.check(); err != nil {
		return fmt.Errorf("%w (needed for %s)", err, needed)
	}
	return nil
}

func (c Config) checkSwift() error {
	switch {
	case c.Objects.SwiftAccounts != AccountsProject && c.Objects.SwiftAccounts != AccountsService:
		return fmt.Errorf("objects.swift_accounts: %q is neither project nor service", c.Objects.SwiftAccounts)
	case c.Objects.SwiftAccounts == AccountsProject && c.Identity.Driver != IdentityKeystone:
		return fmt.Errorf("objects.swift_accounts: objects are in the accounts of projects only with identity.driver: keystone; take service")
	case !containerPrefix.MatchString(c.Objects.SwiftPrefix):
		return fmt.Errorf("objects.swift_prefix: %q is not of at most 64 letters, digits, dots, - and _", c.Objects.SwiftPrefix)
	}
	return nil
}

// Package config is the configuration of the controllers: one struct, read from a strict YAML file, then from the environment.
//
// A key that does not exist is an error that names the nearest one that does. Every key can be set by an environment variable:
// api.listen by TROVE_API_LISTEN. Secrets are not in the configuration but in files that it names.
package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	trove "github.com/trove-dbaas/trove"
)

// Config is the whole configuration.
type Config struct {
	State   string  `yaml:"state" doc:"Directory that everything is kept under: store, keys, images, instances, logs. Names on the host are derived from it."`
	Cache   string  `yaml:"cache" doc:"Directory with root file systems that image builds use again; several deployments may share one; empty: cache in the state directory."`
	Region  string  `yaml:"region" doc:"Name of the region, as instances and the catalogue show it."`
	Store   Store   `yaml:"store"`
	API     API     `yaml:"api"`
	Bus     Bus     `yaml:"bus"`
	Objects Objects `yaml:"objects"`
	Secrets Secrets `yaml:"secrets"`
	Local   Local   `yaml:"local"`
	Quota   Quota   `yaml:"quota"`
	Log     Log     `yaml:"log"`
	Metrics Metrics `yaml:"metrics"`
	Workers Workers `yaml:"workers"`

	Upgrade  Upgrade  `yaml:"upgrade"`
	Recovery Recovery `yaml:"recovery"`
	Identity Identity `yaml:"identity"`

	Cloud     string    `yaml:"cloud" doc:"Where instances are made: local (sandboxes on this machine) or openstack (servers of an OpenStack)."`
	OpenStack OpenStack `yaml:"openstack"`
}

// Bus configures the message bus.
type Bus struct {
	Port      int `yaml:"port" doc:"TCP port of the bus on the management network."`
	EnrolPort int `yaml:"enrol_port" doc:"TCP port on the management network where new guests enrol."`

	FormerPorts      []int `yaml:"former_ports" doc:"TCP ports that the bus had in the past: guests that know nothing else are served there too, and told the present one."`
	FormerEnrolPorts []int `yaml:"former_enrol_ports" doc:"The same for the port where guests enrol."`

	CredentialLife  time.Duration `yaml:"credential_life" doc:"How long the credential of a guest is good; it is renewed at half of it. From 8s on."`
	CertificateLife time.Duration `yaml:"certificate_life" doc:"How long a server certificate is good; it is replaced when a third is left. From 8s on."`
	CALife          time.Duration `yaml:"ca_life" doc:"How long a certificate authority made from now on is good; it is replaced when a quarter is left. At least four times bus.certificate_life."`

	Address     string `yaml:"address" doc:"Address of this host where controllers of other hosts reach the bus, and guests that are on no network of this host; empty: that of the management network alone."`
	Name        string `yaml:"name" doc:"Name of this broker where a deployment has several; each has its own, the same after a restart. Empty: the host's name with bus.route_listen, else trove."`
	RouteListen string `yaml:"route_listen" doc:"Address and port where other brokers of the deployment connect; empty: there are none."`
	RouteURL    string `yaml:"route_url" doc:"tls://host:port of it, as the others reach it; empty: what it listens on."`
}

// Objects configures the object gateway and the store behind it.
type Objects struct {
	Port      int     `yaml:"port" doc:"TCP port on the management network where guests read and write objects."`
	GuestRate int     `yaml:"guest_rate" doc:"MiB a second that one guest may send, and as many that it may get."`
	MinFree   float64 `yaml:"min_free" doc:"GiB of the file system of the state directory that objects leave free; it is for objects.store: file."`

	Store         string `yaml:"store" doc:"Where objects are: file (the state directory) or swift (with the login of openstack)."`
	SwiftAccounts string `yaml:"swift_accounts" doc:"Account of Swift that the objects of a project are in: project (its own; users there read them with any client of Swift) or service (that of this service, with the project in the name of the container)."`
	SwiftPrefix   string `yaml:"swift_prefix" doc:"What the names of containers in the service's account begin with; deployments that share the account need different ones."`
}

// Local configures the local cloud.
type Local struct {
	Dir             string   `yaml:"dir" doc:"Directory of the local cloud's own files: volumes, records of machines and networks, images. On another disk than the state directory, the loss of that disk costs no database; empty: the state directory."`
	ManagementCIDR  string   `yaml:"management_cidr" doc:"Address range of the management network; empty: a free one is picked and kept."`
	TenantCIDR      string   `yaml:"tenant_cidr" doc:"Address range of the tenant network; empty: a free one is picked and kept."`
	PublicPorts     string   `yaml:"public_ports" doc:"Ports of this machine, as 20000-20999, of which each instance with is_public gets one; empty: none."`
	PublicAddresses []string `yaml:"public_addresses" doc:"Addresses of this machine on which public_ports are open, and which users are shown; empty: all, shown is one of each family."`
	PublicCIDRs     []string `yaml:"public_cidrs" doc:"Address ranges, one of IPv4 and one of IPv6 at most, of which each instance with is_public gets an address of its own instead of a port."`
	PublicInterface string   `yaml:"public_interface" doc:"Interface that gets the addresses of public_cidrs; empty: the one of the default route."`
	PoolGiB         int      `yaml:"pool_gib" doc:"Space for data volumes in GiB; 0: what the file system of the state directory has."`
	Overcommit      float64  `yaml:"overcommit" doc:"How many times the pool may be promised; 1: space is reserved."`
	StopMark        string   `yaml:"stop_mark" doc:"Free space of the file system that volumes are never given, such as 10% or 20GiB: below it no volume is made or grown. Empty: 1GiB, with overcommit 10%, at most 20GiB."`
	WarnMark        string   `yaml:"warn_mark" doc:"What is left for volumes when a warning is due, such as 20GiB or 10% of what may be promised; empty: 10%."`
	Flavors         []Flavor `yaml:"flavors" doc:"Sizes of machines: id, name, ram (MiB), vcpus; iops and bandwidth_mib limit the traffic with the data volume, each for reads and for writes, 0: no limit."`
}

// Flavor is a size of machine.
type Flavor struct {
	ID    string `yaml:"id"`
	Name  string `yaml:"name"`
	RAM   int    `yaml:"ram"` // MiB
	VCPUs int    `yaml:"vcpus"`

	IOPS      int `yaml:"iops"`          // reads, and as many writes, a second on the data volume; 0: no limit
	Bandwidth int `yaml:"bandwidth_mib"` // MiB read, and as many written, a second on the data volume; 0: no limit
}

// Quota are the limits of projects that have none of their own; -1: unlimited.
type Quota struct {
	Instances int `yaml:"instances" doc:"Instances a project may have."`
	RAM       int `yaml:"ram" doc:"Memory in MiB that the instances of a project may have together."`
	Volumes   int `yaml:"volumes" doc:"GiB that the volumes of a project may have together."`
	Backups   int `yaml:"backups" doc:"Backups a project may have."`
}

// Log configures the logs.
type Log struct {
	Format string `yaml:"format" doc:"json or text."`
	Level  string `yaml:"level" doc:"debug, info, warn or error."`
}

// Metrics configures where metrics are told.
type Metrics struct {
	Listen string `yaml:"listen" doc:"Loopback address and port of /metrics in a process without the API, which tells its own; one for each such process; empty: none."`

	InstanceInterval time.Duration `yaml:"instance_interval" doc:"How often a conductor asks guests for their databases' figures, for /metrics/instances beside /metrics: all instances on one page, with project and instance as labels; 0: there is no such page."`
	InstanceSeries   int           `yaml:"instance_series" doc:"How many series of a database are on that page at most, small families first; 0: only what the control plane knows by itself."`
}

// Workers configures how much is done at once.
type Workers struct {
	Operations int `yaml:"operations" doc:"Operations that one taskmanager works on at once."`
}

// Upgrade configures changes of datastore versions.
type Upgrade struct {
	Keep time.Duration `yaml:"keep" doc:"How long the data of before an upgrade is kept on the volume if nobody confirms or takes back the upgrade; it is dropped earlier when 90 % of the volume are used. 0: until then."`
}

// Recovery configures exports: encrypted copies of store and keys.
type Recovery struct {
	Recipients []string      `yaml:"recipients" doc:"Public halves (age1...) of the recovery keys that exports are encrypted to."`
	ExportDir  string        `yaml:"export_dir" doc:"Directory that exports are written to, on another disk than the state directory; empty: none is written by itself."`
	Interval   time.Duration `yaml:"interval" doc:"How often an export is written by itself; 0: never."`
	Keep       int           `yaml:"keep" doc:"How many exports of this deployment are kept in the directory; 0: all."`
}

// Default returns the configuration that applies where nothing is said.
func Default() Config {
	return Config{
		State: "/var/lib/trove", Region: "RegionOne",
		Store: Store{Connections: 8, Wait: 5 * time.Second},
		API:   defaultAPI(),
		Bus: Bus{
			Port: 4222, EnrolPort: 4223,
			CredentialLife: 24 * time.Hour, CertificateLife: 90 * 24 * time.Hour, CALife: 10 * 365 * 24 * time.Hour,
		},
		Objects: Objects{Port: 4224, GuestRate: 64, MinFree: 1, Store: ObjectsFile, SwiftAccounts: AccountsProject, SwiftPrefix: "trove-"},
		Secrets: Secrets{MasterKey: MasterKeyFile},
		Local: Local{Overcommit: 1, Flavors: []Flavor{
			{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1},
			{ID: "2", Name: "db.small", RAM: 2048, VCPUs: 1},
			{ID: "3", Name: "db.medium", RAM: 4096, VCPUs: 2},
			{ID: "4", Name: "db.large", RAM: 8192, VCPUs: 2},
		}},
		Quota:    Quota{Instances: 10, RAM: -1, Volumes: 40, Backups: 50},
		Log:      Log{Format: "text", Level: "info"},
		Workers:  Workers{Operations: 8},
		Upgrade:  Upgrade{Keep: 7 * 24 * time.Hour},
		Metrics:  Metrics{InstanceSeries: 60},
		Recovery: Recovery{Interval: 24 * time.Hour, Keep: 14},
		Identity: defaultIdentity(),

		Cloud: CloudLocal, OpenStack: defaultOpenStack(),
	}
}

// TroveFlavors returns the flavors as the cloud takes them.
func (l Local) TroveFlavors() []trove.Flavor {
	all := make([]trove.Flavor, 0, len(l.Flavors))
	for _, f := range l.Flavors {
		all = append(all, trove.Flavor{ID: f.ID, Name: f.Name, RAM: f.RAM, VCPUs: f.VCPUs, IOPS: f.IOPS, Bandwidth: f.Bandwidth})
	}
	return all
}

// CloudDir returns the directory of the local cloud's own files.
func (c Config) CloudDir() string { return cmp.Or(c.Local.Dir, c.State) }

// PublicPortRange returns the first and the last port that instances get, 0 for none.
func (l Local) PublicPortRange() (first, last int, err error) {
	if l.PublicPorts == "" {
		return 0, 0, nil
	}
	from, to, _ := strings.Cut(l.PublicPorts, "-")
	first, err1 := strconv.Atoi(strings.TrimSpace(from))
	last, err2 := strconv.Atoi(strings.TrimSpace(to))
	if err1 != nil || err2 != nil || first < 1024 || last < first || last > 65535 {
		return 0, 0, fmt.Errorf("local.public_ports: %q is not a range of ports from 1024 to 65535, such as 20000-20999", l.PublicPorts)
	}
	return first, last, nil
}

// Public reports whether instances can be reached from outside of this machine.
func (l Local) Public() bool { return l.PublicPorts != "" || len(l.PublicCIDRs) > 0 }

func (c Config) checkPublic() error {
	for _, text := range c.Local.PublicAddresses {
		if ip, err := netip.ParseAddr(text); err != nil || ip.IsUnspecified() {
			return fmt.Errorf("local.public_addresses: %q is not an address", text)
		}
	}
	families := map[bool]bool{}
	for _, text := range c.Local.PublicCIDRs {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() || p.Addr().Is4() && p.Bits() < 16 {
			return fmt.Errorf("local.public_cidrs: %q is not a range of addresses; of IPv4 it can be a /16 or smaller", text)
		}
		if families[p.Addr().Is4()] {
			return fmt.Errorf("local.public_cidrs: %q is the second range of its family", text)
		}
		families[p.Addr().Is4()] = true
	}
	first, last, err := c.Local.PublicPortRange()
	if api, _ := netip.ParseAddrPort(c.API.Listen); err == nil && int(api.Port()) >= first && int(api.Port()) <= last {
		return fmt.Errorf("local.public_ports: %q has the port of api.listen", c.Local.PublicPorts)
	}
	return err
}

// Load reads the file over the defaults (a file that does not exist, or "", changes nothing), then the environment, and checks the result.
func Load(path string, environ []string) (Config, error) {
	c := Default()
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return Config{}, fmt.Errorf("read the configuration: %w", err)
		}
		if err := decode(data, &c); err != nil {
			return Config{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := overlay(&c, environ); err != nil {
		return Config{}, err
	}
	abs, err := filepath.Abs(c.State)
	if err != nil {
		return Config{}, fmt.Errorf("state: %w", err)
	}
	c.State = abs
	return c, c.Check()
}

// SaysState reports whether a file says where the state is. One that cannot be read says nothing.
func SaysState(path string) bool {
	var said struct {
		State string `yaml:"state"`
	}
	data, err := os.ReadFile(path)
	return err == nil && yaml.Unmarshal(data, &said) == nil && said.State != ""
}

// Check returns an error that names the first key whose value cannot work.
func (c Config) Check() error {
	if err := c.API.check(); err != nil {
		return err
	}
	if c.Upgrade.Keep < 0 {
		return fmt.Errorf("upgrade.keep: %s is no time", c.Upgrade.Keep)
	}
	if err := c.Metrics.check(); err != nil {
		return err
	}
	for name, cidr := range map[string]string{"local.management_cidr": c.Local.ManagementCIDR, "local.tenant_cidr": c.Local.TenantCIDR} {
		if cidr == "" {
			continue
		}
		if p, err := netip.ParsePrefix(cidr); err != nil || !p.Addr().Is4() || p.Bits() > 28 {
			return fmt.Errorf("%s: %q is not an IPv4 range of /28 or larger", name, cidr)
		}
	}
	if err := c.Store.check(); err != nil {
		return err
	}
	if err := c.checkPorts(); err != nil {
		return err
	}
	if err := c.Bus.check(); err != nil {
		return err
	}
	if c.Objects.GuestRate < 1 {
		return fmt.Errorf("objects.guest_rate: %d is less than 1", c.Objects.GuestRate)
	}
	if c.Objects.MinFree < 0 {
		return fmt.Errorf("objects.min_free: %v is less than 0", c.Objects.MinFree)
	}
	if c.Local.Dir != "" && !filepath.IsAbs(c.Local.Dir) {
		return fmt.Errorf("local.dir: %q is not an absolute path", c.Local.Dir)
	}
	if err := c.checkPublic(); err != nil {
		return err
	}
	if c.Local.Overcommit < 1 {
		return fmt.Errorf("local.overcommit: %v is less than 1", c.Local.Overcommit)
	}
	if c.Workers.Operations < 1 {
		return fmt.Errorf("workers.operations: %d is less than 1", c.Workers.Operations)
	}
	for _, err := range []error{c.Recovery.check(), c.Identity.check(), c.checkCloud(), c.checkStores()} {
		if err != nil {
			return err
		}
	}
	return c.checkFlavors()
}

// checkPorts looks at the ports on the management network's address.
func (c Config) checkPorts() error {
	seen := map[int]string{}
	for _, p := range []struct {
		name  string
		ports []int
	}{
		{"bus.port", []int{c.Bus.Port}},
		{"bus.enrol_port", []int{c.Bus.EnrolPort}},
		{"objects.port", []int{c.Objects.Port}},
		{"bus.former_ports", c.Bus.FormerPorts},
		{"bus.former_enrol_ports", c.Bus.FormerEnrolPorts},
	} {
		for _, port := range p.ports {
			if port < 1 || port > 65535 {
				return fmt.Errorf("%s: %d is not a port", p.name, port)
			}
			if other := seen[port]; other != "" {
				return fmt.Errorf("%s: %d is the port of %s", p.name, port, other)
			}
			seen[port] = p.name
		}
	}
	return nil
}

// shortestLife is the least that a credential or certificate may live: a renewal has to be over before it ends.
const shortestLife = 8 * time.Second

func (b Bus) check() error {
	switch {
	case b.CredentialLife < shortestLife:
		return fmt.Errorf("bus.credential_life: %s is less than %s", b.CredentialLife, shortestLife)
	case b.CertificateLife < shortestLife:
		return fmt.Errorf("bus.certificate_life: %s is less than %s", b.CertificateLife, shortestLife)
	case b.CALife < 4*b.CertificateLife:
		return fmt.Errorf("bus.ca_life: %s is less than four times bus.certificate_life", b.CALife)
	case len(b.Name) > 64 || strings.ContainsAny(b.Name, " \t\n"):
		return fmt.Errorf("bus.name: %q is not a name of at most 64 characters without spaces", b.Name)
	}
	if _, err := netip.ParseAddrPort(b.RouteListen); b.RouteListen != "" && err != nil {
		return fmt.Errorf("bus.route_listen: %q is not an address with a port", b.RouteListen)
	}
	if ip, err := netip.ParseAddr(b.Address); b.Address != "" && (err != nil || ip.IsUnspecified()) {
		return fmt.Errorf("bus.address: %q is not an address that others can be told", b.Address)
	}
	if a, err := netip.ParseAddrPort(b.RouteListen); err == nil && a.Addr().IsUnspecified() && b.RouteURL == "" {
		return fmt.Errorf("bus.route_url: needed where bus.route_listen is %s: the other brokers are told an address", b.RouteListen)
	}
	if u, err := url.Parse(b.RouteURL); b.RouteURL != "" && (err != nil || u.Scheme != "tls" || u.Port() == "") {
		return fmt.Errorf("bus.route_url: %q is not tls://host:port", b.RouteURL)
	}
	return nil
}

func (r Recovery) check() error {
	if r.ExportDir != "" && !filepath.IsAbs(r.ExportDir) {
		return fmt.Errorf("recovery.export_dir: %q is not an absolute path", r.ExportDir)
	}
	if r.ExportDir != "" && len(r.Recipients) == 0 {
		return fmt.Errorf("recovery.recipients: without one nothing can be written to recovery.export_dir")
	}
	if r.Interval < 0 || r.Interval > 0 && r.Interval < time.Minute {
		return fmt.Errorf("recovery.interval: %s is less than a minute", r.Interval)
	}
	if r.Keep < 0 {
		return fmt.Errorf("recovery.keep: %d is less than 0", r.Keep)
	}
	return nil
}

func (c Config) checkFlavors() error {
	seen := map[string]bool{}
	for _, f := range c.Local.Flavors {
		if f.ID == "" || f.Name == "" || f.RAM < 256 || f.VCPUs < 1 || f.IOPS < 0 || f.Bandwidth < 0 {
			return fmt.Errorf("local.flavors: %q needs an id, a name, at least 256 MiB of ram and one vcpu, and no limit below 0", f.Name)
		}
		if seen[f.ID] {
			return fmt.Errorf("local.flavors: two flavors have the id %q", f.ID)
		}
		seen[f.ID] = true
	}
	if len(seen) == 0 {
		return fmt.Errorf("local.flavors: there is none")
	}
	return nil
}

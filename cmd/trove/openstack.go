package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client/cli"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
)

const openstackHelp = `Prepare an OpenStack for this service, and look whether all that it needs is there. An administrator's login is taken from --admin-rc (a file with the OS_
variables), from a cloud of clouds.yaml (--os-cloud or OS_CLOUD), or from the variables OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME, OS_USER_DOMAIN_NAME,
OS_PROJECT_DOMAIN_NAME (or the same with ID in place of the last NAME), OS_REGION_NAME, OS_INTERFACE and OS_CACERT; the service keeps none of it.

docs/operators/openstack.md leads from an OpenStack to the first instance.`

// openstackOptions are the flags of trove openstack: what is wanted of an OpenStack.
type openstackOptions struct {
	stateOptions
	w bootstrap.Wanted

	rc, cloud, format                   string
	cidr, via                           string
	controllers, flavors, images, parts []string
	publicURL, internalURL, adminURL    string
}

func openstackCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "openstack", Short: "Prepare an OpenStack for the service, and check that nothing is missing", Long: openstackHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(bootstrapCommand(), openstackCheckCommand(), openstackInterfaceCommand())
	return c
}

// flags are those of both commands. What the configuration says is the default of what is not given.
func (o *openstackOptions) flags(c *cobra.Command) {
	d := config.Default().OpenStack
	f := c.Flags()
	o.stateFlag(f, config.Default().State)
	f.StringVar(&o.file, "config", "", "configuration file (trove.yaml in the state directory)")
	f.StringVar(&o.rc, "admin-rc", "", "file with the OS_ variables of an administrator")
	f.StringVar(&o.cloud, "os-cloud", "", "cloud of clouds.yaml with the login of an administrator")
	f.StringVarP(&o.format, "format", "f", "table", "table or json")
	f.StringSliceVar(&o.parts, "only", nil, "these parts only: "+partList())
	f.StringVar(&o.w.Network, "network", d.ManagementNetwork, "name or id of the management network")
	f.StringVar(&o.w.Group, "security-group", d.ManagementSecurityGroup, "name of the security group of the guests' management ports")
	f.StringVar(&o.w.User, "user", d.Username, "name of the service user")
	f.StringVar(&o.w.UserDomain, "user-domain", d.UserDomain, "its domain")
	f.StringVar(&o.w.Project, "project", d.Project, "project that servers, volumes and management ports are made in")
	f.StringVar(&o.w.ProjectDomain, "project-domain", d.ProjectDomain, "its domain")
	f.StringVar(&o.w.PasswordFile, "password-file", d.PasswordFile, "file with the service user's password; relative to the state directory")
	f.StringArrayVar(&o.controllers, "controller-address", nil, "address where guests find a controller; may be repeated (the one that this host has in the subnet)")
	f.StringVar(&o.w.Host, "host", "", "this host as Neutron's agent calls it (its name)")
	f.StringVar(&o.w.Interface, "interface", "", "make an interface of this name on this host, by a port of Neutron")
	f.StringArrayVar(&o.flavors, "flavor", nil, "flavor as NAME:MIB:CORES:GIB; may be repeated (those of trove dev)")
	f.BoolVar(&o.w.PrivateFlavors, "private-flavors", false, "flavors that only the service's project may use")
	f.IntVar(&o.w.VolumeGiB, "volume-size", config.Default().API.MaxVolumeSize, "GiB of each instance's volume, for the quota")
	f.StringArrayVar(&o.images, "image", nil, "image with the file that was written beside it, from trove image build --format qcow2; may be repeated")
	f.StringVar(&o.publicURL, "public-url", "", "where clients reach the API, as https://db.example:8779")
	f.StringVar(&o.internalURL, "internal-url", "", "where services of the cloud reach it (as --public-url)")
	f.StringVar(&o.adminURL, "admin-url", "", "the endpoint for administrators (as --internal-url)")
	f.StringVar(&o.w.ServiceName, "service-name", "trove", "name of the service in the catalogue")
}

// sizeFlags are how large it shall be.
func (o *openstackOptions) sizeFlags(c *cobra.Command, instances int, help string) {
	f := c.Flags()
	f.IntVar(&o.w.Size.Instances, "instances", instances, help)
	f.IntVar(&o.w.Size.Replicas, "replicas", 1, "replicas of each instance that there is room for")
	f.IntVar(&o.w.Size.Controllers, "controllers", 3, "controllers that there is room for")
	f.IntVar(&o.w.Size.DHCP, "dhcp", 0, "ports of DHCP agents on the network; 0: no DHCP, which guests do not need")
}

func partList() string {
	names := make([]string, 0, len(bootstrap.Parts))
	for _, p := range bootstrap.Parts {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// given reports whether a flag was given.
func given(c *cobra.Command, name string) bool { return c.Flags().Changed(name) }

// wanted completes what is wanted from the flags, the configuration and the administrator's login.
func (o *openstackOptions) wanted(c *cobra.Command, cfg config.Config, admin osclient.Config) (w bootstrap.Wanted, err error) {
	w = o.w
	for _, d := range []struct {
		flag   string
		value  *string
		config string
	}{
		{"network", &w.Network, cfg.OpenStack.ManagementNetwork},
		{"security-group", &w.Group, cfg.OpenStack.ManagementSecurityGroup},
		{"user", &w.User, cfg.OpenStack.Username},
		{"user-domain", &w.UserDomain, cfg.OpenStack.UserDomain},
		{"project", &w.Project, cfg.OpenStack.Project},
		{"project-domain", &w.ProjectDomain, cfg.OpenStack.ProjectDomain},
		{"password-file", &w.PasswordFile, cfg.OpenStack.PasswordFile},
	} {
		if !given(c, d.flag) {
			*d.value = d.config
		}
	}
	if w.PasswordName = w.PasswordFile; !filepath.IsAbs(w.PasswordFile) {
		w.PasswordFile = filepath.Join(cfg.State, w.PasswordFile)
	}
	w.Role, w.DHCP = "admin", w.Size.DHCP > 0
	w.Region = cmp.Or(admin.Region, cfg.Region)
	if admin.CAFile != "" { // it is written down for the service, which runs in another directory
		if admin.CAFile, err = filepath.Abs(admin.CAFile); err != nil {
			return w, fmt.Errorf("the file of certificate authorities: %w", err)
		}
	}
	w.AuthURL, w.CAFile = cmp.Or(cfg.OpenStack.AuthURL, admin.AuthURL), cmp.Or(cfg.OpenStack.CAFile, admin.CAFile)
	w.ControllerGroup = w.Group + "-controllers"
	w.Ports = append([]int{cfg.Bus.Port, cfg.Bus.EnrolPort, cfg.Objects.Port}, append(cfg.Bus.FormerPorts, cfg.Bus.FormerEnrolPorts...)...)
	if w.Host == "" {
		if w.Host, err = os.Hostname(); err != nil {
			return w, fmt.Errorf("the name of this host: %w", err)
		}
	}
	for _, p := range o.parts {
		w.Only = append(w.Only, bootstrap.Part(p))
	}
	if given(c, "write-config") && !w.Has(bootstrap.PartConfig) {
		w.Only = append(w.Only, bootstrap.PartConfig) // who names a file wants it to be written, whatever else is left out
	}
	w.Endpoints = o.endpoints(cfg)
	return w, o.parse(&w, cfg)
}

// parse reads the flags that are more than a word.
func (o *openstackOptions) parse(w *bootstrap.Wanted, cfg config.Config) (err error) {
	if o.cidr != "" {
		if w.CIDR, err = netip.ParsePrefix(o.cidr); err != nil {
			return &cli.UsageError{Message: fmt.Sprintf("--cidr: %q is not a range of addresses such as 10.20.0.0/22.", o.cidr)}
		}
	}
	if o.via != "" {
		if w.Via, err = netip.ParseAddr(o.via); err != nil {
			return &cli.UsageError{Message: fmt.Sprintf("--via: %q is not an address.", o.via)}
		}
	}
	addresses := o.controllers
	if len(addresses) == 0 && cfg.Cloud == config.CloudOpenStack && cfg.Bus.Address != "" {
		addresses = []string{cfg.Bus.Address}
	}
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return &cli.UsageError{Message: fmt.Sprintf("--controller-address: %q is not an address.", text)}
		}
		w.Controllers = append(w.Controllers, a)
	}
	w.Flavors = bootstrap.DefaultFlavors()
	if len(o.flavors) > 0 {
		w.Flavors = nil
	}
	for _, text := range o.flavors {
		f, err := parseFlavor(text)
		if err != nil {
			return err
		}
		w.Flavors = append(w.Flavors, f)
	}
	for _, path := range o.images {
		i, err := bootstrap.ReadImageFile(path)
		if err != nil {
			return err
		}
		w.Images = append(w.Images, i)
	}
	return nil
}

func parseFlavor(text string) (bootstrap.Flavor, error) {
	parts := strings.Split(text, ":")
	wrong := &cli.UsageError{Message: fmt.Sprintf("--flavor: %q is not NAME:MIB:CORES:GIB, such as db.small:2048:1:4.", text)}
	if len(parts) != 4 {
		return bootstrap.Flavor{}, wrong
	}
	f := bootstrap.Flavor{Name: parts[0]}
	for n, to := range []*int{&f.RAM, &f.VCPUs, &f.Disk} {
		var err error
		if *to, err = strconv.Atoi(parts[n+1]); err != nil {
			return bootstrap.Flavor{}, wrong
		}
	}
	return f, nil
}

// endpoints are what the catalogue says, none if nobody said where the API is.
func (o *openstackOptions) endpoints(cfg config.Config) map[string]string {
	public := cmp.Or(o.publicURL, cfg.API.PublicURL)
	if at, err := netip.ParseAddrPort(cfg.API.Listen); public == "" && err == nil && !at.Addr().IsLoopback() && !at.Addr().IsUnspecified() {
		public = cfg.API.URL()
	}
	if public == "" {
		return nil
	}
	internal := cmp.Or(o.internalURL, public)
	all := map[string]string{"public": public, "internal": internal, "admin": cmp.Or(o.adminURL, internal)}
	for name, url := range all {
		if url = strings.TrimSuffix(url, "/"); !strings.Contains(url, "/v1.0") {
			url += "/v1.0/$(project_id)s"
		}
		all[name] = url
	}
	return all
}

// openstack is what both commands work with.
type openstack struct {
	b       *bootstrap.Bootstrap
	w       bootstrap.Wanted
	cfg     config.Config
	session *osclient.Session
}

// login reads flags and configuration and logs in as the administrator.
func (o *openstackOptions) login(ctx context.Context, c *cobra.Command) (*openstack, error) {
	if o.format != "table" && o.format != "json" {
		return nil, &cli.UsageError{Message: fmt.Sprintf("--format: %q is neither table nor json.", o.format)}
	}
	cfg, _, err := o.config()
	if err != nil {
		return nil, err
	}
	admin, err := bootstrap.Admin(bootstrap.Source{Getenv: os.Getenv, RC: o.rc, Cloud: o.cloud})
	if err != nil {
		return nil, err
	}
	w, err := o.wanted(c, cfg, admin)
	if err != nil {
		return nil, err
	}
	if _, err := bootstrap.Plan(w, bootstrap.Found{}); err != nil {
		return nil, &cli.UsageError{Message: trove.MessageOf(err)} // before anybody is asked anything
	}
	admin.Log, admin.Timeout = slog.New(slog.DiscardHandler), cfg.OpenStack.RequestTimeout
	admin.Region = w.Region // a login without a region would act in whichever the catalogue names first
	session, err := osclient.New(ctx, admin)
	if err != nil {
		return nil, err
	}
	return &openstack{
		b: &bootstrap.Bootstrap{Services: session, Registry: app.OpenImageVersions(cfg), Host: bootstrap.Machine{File: app.StateDir(cfg.State).Interface()}}, w: w, cfg: cfg, session: session,
	}, nil
}

const bootstrapHelp = `Make everything in an OpenStack that this service needs for a number of instances, or mend it: the service user with its role, the management network with a
subnet that is large enough, the security groups, the way between this host and the guests, flavors, quotas, images with their datastore versions, and the endpoints of
the catalogue. For each thing it says whether it was there, was made or was changed. It may be repeated, and is to be repeated with a larger number, on each further
controller, and with each new image.

What others may depend on is not changed without being told: the password of a user that is there (--reset-password), an endpoint that leads elsewhere
(--replace-endpoints), a network that was not made here. A subnet's range cannot be changed later: ask for as many instances as there may ever be.

--dry-run shows what would be made or changed, and does nothing. The exit code is 1 if something could not be made, or is refused.`

func bootstrapCommand() *cobra.Command {
	var o openstackOptions
	var dry bool
	c := &cobra.Command{
		Use: "bootstrap --instances N", Short: "Make what the service needs in an OpenStack, or mend it", Long: bootstrapHelp, Args: cobra.NoArgs,
		Example: `  trove openstack bootstrap --instances 200 --admin-rc admin-openrc --dry-run
  trove openstack bootstrap --instances 200 --network-type vlan --physical-network physnet1 --segment 77 --cidr 10.20.0.0/22 --public-url https://db.example:8779
  trove openstack bootstrap --instances 200 --only image,datastore-version --image mariadb-10.11.qcow2`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBootstrap(cmd.Context(), cmd, &o, dry) },
	}
	o.flags(c)
	o.sizeFlags(c, 0, "instances that there shall be room for (required)")
	f := c.Flags()
	f.StringVar(&o.w.NetworkType, "network-type", "", "type of a new network: flat, vlan, vxlan, geneve (Neutron's default)")
	f.StringVar(&o.w.PhysicalNetwork, "physical-network", "", "physical network of a new network, as Neutron calls it")
	f.IntVar(&o.w.Segment, "segment", 0, "its VLAN or other segment")
	f.StringVar(&o.cidr, "cidr", "", "range of a new subnet (one of 10.224.0.0/11 that this host does not reach)")
	f.StringVar(&o.via, "via", "", "address in the subnet by which guests reach controllers outside it")
	f.BoolVar(&o.w.ResetPassword, "reset-password", false, "give the service user the password of the file, which ends what logs in with the present one")
	f.BoolVar(&o.w.ReplaceEndpoints, "replace-endpoints", false, "change endpoints of the catalogue that lead elsewhere")
	f.StringVar(&o.w.ConfigFile, "write-config", "", "add what the service has to know to this configuration file")
	f.BoolVar(&dry, "dry-run", false, "show what would be done, and do nothing")
	_ = c.MarkFlagRequired("instances")
	return c
}

func runBootstrap(ctx context.Context, c *cobra.Command, o *openstackOptions, dry bool) error {
	s, err := o.login(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = s.session.Close() }()
	out := newBootstrapOutput(o.format, dry, s.cfg.Cloud == config.CloudOpenStack, s.w)
	out.begin()
	found, err := s.b.Run(ctx, s.w, dry, out.step)
	if err == nil || dry {
		out.end(found)
	}
	return err
}

const openstackInterfaceHelp = `Make the interface of the management network on this host again, as "trove openstack bootstrap --interface" made it, with the packet filter that belongs to it. It
asks no OpenStack: what is to be made stands in the state directory. "trove service install" writes a unit that does this with each start of the machine.`

func openstackInterfaceCommand() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use: "interface", Short: "Make this host's interface of the management network again, after a restart of the machine (root)", Long: openstackInterfaceHelp, Args: cobra.NoArgs,
		Example: "  trove openstack interface --state /var/lib/trove",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return trove.Errorf(trove.KindForbidden, "Interfaces of this machine belong to root: run it as root, or with sudo.")
			}
			dir, _ := o.dir()
			made, err := bootstrap.Machine{File: app.StateDir(dir).Interface()}.Restore(cmd.Context())
			for _, m := range made {
				fmt.Fprintln(os.Stdout, m)
			}
			return err
		},
	}
	o.stateFlag(c.Flags(), config.Default().State)
	return c
}

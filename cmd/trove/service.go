package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/systemd"
)

const installHelp = `Write the systemd unit that runs the service, enable it and start it. Done again it changes what differs and restarts the service only then;
databases go on in any case.

Where systemd does not run, and with --root, the files are written and nothing else is done.`

const uninstallHelp = `Stop and remove the units that install has written. Databases go on, and the state directory stays.

What "trove openstack bootstrap --interface" made on this host stays as well, for the next install. It is named with the commands that take it away.`

// serviceOptions are the flags of trove service.
type serviceOptions struct {
	stateOptions
	root, program, masterKey    string
	components, dryRun, noStart bool
}

func serviceCommand() *cobra.Command {
	var o serviceOptions
	c := &cobra.Command{
		Use: "service", Short: "Let systemd run the service: start it with the machine, and again when it fails (root)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			if o.root != "" {
				o.root, err = filepath.Abs(o.root)
			}
			return err
		},
	}
	c.PersistentFlags().StringVar(&o.root, "root", "", "directory that stands for / : only files are written or removed below it")
	install := &cobra.Command{
		Use: "install", Short: "Write, enable and start the units", Long: installHelp, Args: cobra.NoArgs,
		Example: "  trove service install --state /var/lib/trove\n  trove service install --components --dry-run",
		RunE:    func(cmd *cobra.Command, _ []string) error { return serviceInstall(cmd.Context(), o) },
	}
	f := install.Flags()
	o.stateFlag(f, config.Default().State)
	f.StringVar(&o.file, "config", "", "configuration file (trove.yaml in the state directory)")
	f.StringVar(&o.program, "program", "", "path of trove as the units call it (this program)")
	f.StringVar(&o.masterKey, "master-key", "", "file with the master key, handed over as a credential of systemd; it need not lie in the state directory")
	f.BoolVar(&o.components, "components", false, "a unit for each of api, taskmanager and conductor instead of one for all")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the units and do nothing")
	f.BoolVar(&o.noStart, "no-start", false, "enable the units for the next start of the machine and do not start them now")
	var state stateOptions // of uninstall
	uninstall := &cobra.Command{
		Use: "uninstall", Short: "Stop and remove the units; databases go on and the state directory stays", Long: uninstallHelp, Args: cobra.NoArgs,
		Example: "  trove service uninstall --state /var/lib/trove",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, _ := state.dir()
			return serviceUninstall(cmd.Context(), o.root, dir)
		},
	}
	state.stateFlag(uninstall.Flags(), config.Default().State)
	c.AddCommand(
		install,
		uninstall,
		&cobra.Command{
			Use: "status", Short: "Say whether the units are there, enabled and running", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return serviceStatus(cmd.Context(), o.root) },
		},
	)
	return c
}

// units makes the units from the flags and the configuration, which must be valid: a unit that cannot start helps nobody.
func (o serviceOptions) units() ([]systemd.Unit, error) {
	c, _, err := o.config()
	if err != nil {
		return nil, err
	}
	s := systemd.Spec{State: c.State, Components: o.components, Mounts: app.Directories(c), OpenStack: c.Cloud == config.CloudOpenStack}
	if dir := c.Recovery.ExportDir; dir != "" {
		s.Writes = []string{dir}
	}
	if s.OpenStack {
		_, err := os.Stat(app.StateDir(c.State).Interface())
		s.Interface = err == nil
	}
	for name, path := range map[*string]string{&s.Program: o.program, &s.Config: o.file, &s.MasterKey: o.masterKey} {
		if path == "" {
			continue
		}
		if *name, err = filepath.Abs(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if s.Program == "" {
		if s.Program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	return systemd.Units(s), nil
}

// makeState makes the state directory: systemd starts no unit that may write to a directory which is not there.
func (o serviceOptions) makeState() error {
	_, state, err := o.config()
	if err != nil {
		return err
	}
	return app.StateDir(filepath.Join(o.root, string(state))).Make()
}

func serviceInstall(ctx context.Context, o serviceOptions) error {
	units, err := o.units()
	if err != nil {
		return err
	}
	if o.dryRun {
		for _, u := range units {
			fmt.Fprintf(os.Stdout, "# %s/%s\n%s\n", systemd.Dir, u.Name, u.Text)
		}
		return nil
	}
	if err := needRootFor(o.root); err != nil {
		return err
	}
	if err := o.makeState(); err != nil {
		return err
	}
	live := o.root == "" && systemd.Running()
	if err := removeOthers(ctx, o.root, units, live); err != nil {
		return err
	}
	changed, err := systemd.Write(o.root, units)
	if err != nil {
		return err
	}
	for _, name := range changed {
		fmt.Fprintf(os.Stderr, "wrote %s\n", filepath.Join("/", o.root, systemd.Dir, name))
	}
	if !live {
		if o.root == "" {
			fmt.Fprintln(os.Stderr, "systemd does not run on this machine: the units were written and nothing was enabled or started")
		}
		return nil
	}
	return startUnits(ctx, o, units, len(changed) > 0)
}

// startUnits enables the units and makes them run as they are written now.
func startUnits(ctx context.Context, o serviceOptions, units []systemd.Unit, changed bool) error {
	names := make([]string, 0, len(units))
	for _, u := range units {
		names = append(names, u.Name)
	}
	if err := systemd.Control(ctx, "daemon-reload"); err != nil {
		return err
	}
	if err := systemd.Control(ctx, "enable", names...); err != nil {
		return err
	}
	if o.noStart {
		return nil
	}
	if err := refuseStranger(ctx, o, names); err != nil {
		return err
	}
	verb := "start"
	if changed {
		verb = "restart"
	}
	if err := systemd.Control(ctx, verb, names...); err != nil {
		return trove.Wrap(trove.KindUnavailable, err, "The units are installed, but systemd could not start them; `journalctl -u %s` says why.", names[len(names)-1])
	}
	c, _, err := o.config()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "the service runs; %s\n", howToLogIn(c))
	return nil
}

// refuseStranger says what runs from the state directory that systemd did not start: the units could not start beside it.
func refuseStranger(ctx context.Context, o serviceOptions, names []string) error {
	for _, name := range names {
		if systemd.Says(ctx, "is-active", name) == "active" {
			return nil
		}
	}
	_, state, err := o.config()
	if err != nil {
		return err
	}
	running, err := state.Running()
	if err != nil || len(running.Processes()) == 0 {
		return err
	}
	return trove.Errorf(trove.KindConflict,
		"The units are installed, but the service already runs from %s (%s) and was not started by systemd. `trove dev stop --state %s`, then install again.",
		state, running, state)
}

// removeOthers removes units of an earlier installation of the other kind.
func removeOthers(ctx context.Context, root string, units []systemd.Unit, live bool) error {
	installed, err := systemd.Installed(root)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(installed, func(name string) bool {
		return slices.ContainsFunc(units, func(u systemd.Unit) bool { return u.Name == name })
	})
	return removeUnits(ctx, root, others, live)
}

func removeUnits(ctx context.Context, root string, names []string, live bool) error {
	if len(names) == 0 {
		return nil
	}
	if live {
		if err := systemd.Control(ctx, "disable", append([]string{"--now"}, names...)...); err != nil {
			return err
		}
	}
	if err := systemd.Remove(root, names); err != nil {
		return err
	}
	for _, name := range names {
		fmt.Fprintf(os.Stderr, "removed %s\n", filepath.Join("/", root, systemd.Dir, name))
	}
	if live {
		return systemd.Control(ctx, "daemon-reload")
	}
	return nil
}

func serviceUninstall(ctx context.Context, root, state string) error {
	if err := needRootFor(root); err != nil {
		return err
	}
	names, err := systemd.Installed(root)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintln(os.Stderr, "it is not installed")
	}
	if err := removeUnits(ctx, root, names, root == "" && systemd.Running()); err != nil {
		return err
	}
	return tellInterface(filepath.Join(root, state), slices.Contains(names, systemd.InterfaceUnit))
}

// tellInterface says what stays of the interface of the management network. It is not taken away: an install that follows needs it, and without it this host
// reaches no guest. Sure says that there is one, whether the state directory knows it or not.
func tellInterface(state string, sure bool) error {
	commands, err := bootstrap.Machine{File: app.StateDir(state).Interface()}.Undo()
	if err != nil {
		return err
	}
	if len(commands) == 0 && sure {
		fmt.Fprintf(os.Stderr, "this host's interface of the management network stays; %s does not say which it is: `trove service uninstall --state DIR` with the service's directory does\n", state)
	}
	if len(commands) == 0 {
		return nil
	}
	fmt.Fprintln(os.Stderr, "what was made on this host for the management network stays for the next install; to take it away, delete this host's port in Neutron, and then:")
	for _, c := range commands {
		fmt.Fprintln(os.Stderr, "  "+c)
	}
	return nil
}

func serviceStatus(ctx context.Context, root string) error {
	names, err := systemd.Installed(root)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return trove.Errorf(trove.KindNotFound, "The service is not installed; `trove service install` does it.")
	}
	if root != "" || !systemd.Running() {
		for _, name := range names {
			fmt.Fprintf(os.Stdout, "%s: installed\n", name)
		}
		return trove.Errorf(trove.KindUnavailable, "systemd does not run here.")
	}
	down := ""
	for _, name := range names {
		active := systemd.Says(ctx, "is-active", name)
		fmt.Fprintf(os.Stdout, "%s: installed, %s, %s\n", name, systemd.Says(ctx, "is-enabled", name), active)
		if active != "active" {
			down = name
		}
	}
	if down != "" {
		return trove.Errorf(trove.KindUnavailable, "%s does not run; `journalctl -u %s` says why.", down, down)
	}
	return nil
}

func needRootFor(root string) error {
	if root != "" || os.Geteuid() == 0 {
		return nil
	}
	return trove.Errorf(trove.KindForbidden, "Units of this machine belong to root: run it as root, or with sudo.")
}

// tellReady tells systemd that the service is ready, where systemd started it. That it cannot be told is no reason to end.
func tellReady() {
	if err := systemd.Ready(); err != nil {
		fmt.Fprintln(os.Stderr, "warning:", err)
	}
}

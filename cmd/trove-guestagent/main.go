// Command trove-guestagent is the one program inside a guest: `machine` makes a virtual machine ready at its start, `init` is the first process of a
// sandbox and the service in a virtual machine, `agent` runs the database and speaks with the controllers, `initialise` makes an empty data directory when
// an image is built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestagent/guestinit"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/guestapp"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// version is set by the linker.
var version = "devel"

const usage = `usage: trove-guestagent COMMAND [OPTIONS]

  machine     make a virtual machine ready: config drive, network, data volume
  init        be the first process of a sandbox: run the agent, reap, stop the engine in the end
  agent       run the database and speak with the controllers
  initialise  make an empty data directory
  version     print the version and those of the linked modules
`

// errUsage is a command line that cannot be read; what is wrong was printed.
var errUsage = errors.New("usage")

func main() {
	os.Exit(exitCode(run(os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

func exitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(stderr, "trove-guestagent:", sentence(err))
	return 1
}

// sentence is the whole error: who reads it is an operator or the image builder, not a tenant.
func sentence(err error) string { return strings.TrimSpace(err.Error()) }

func run(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	log := telemetry.NewLogger(stderr, "json", slog.LevelInfo)
	command, args := args[0], args[1:]
	switch command {
	case "machine":
		return runMachine(args, stderr)
	case "init":
		return runInit(args, log, stderr)
	case "agent":
		return runAgent(args, log, stderr)
	case "initialise":
		return runInitialise(args, log, stdout, stderr)
	case "version", "--version":
		return printVersion(stdout)
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return nil
	}
	fmt.Fprintf(stderr, "there is no command %q\n%s", command, usage)
	return errUsage
}

// parse reads the flags of a command. Without rest, nothing may stand behind them.
func parse(flags *flag.FlagSet, args []string, rest bool, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if !rest && flags.NArg() > 0 {
		fmt.Fprintf(stderr, "%s: what does %q mean?\n", flags.Name(), flags.Arg(0))
		return errUsage
	}
	return nil
}

func runInit(args []string, log *slog.Logger, stderr io.Writer) error {
	cfg := guestinit.Config{Log: log}
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	flags.StringVar(&cfg.Agent, "agent", imagelayout.AgentBin, "the agent's program; what stands behind the flags becomes its options")
	flags.StringVar(&cfg.Runtime, "run", imagelayout.RunDir, "runtime directory")
	releases := flags.String("releases", imagelayout.ReleasesDir, "directory of the agent's releases on the data volume; empty: only the program above is run")
	flags.StringVar(&cfg.Keys, "release-keys", imagelayout.AgentKeys, "public keys of those who sign releases")
	flags.StringVar(&cfg.Management, "management", imagelayout.ManagementNetns, "network namespace from which the bus is reached; where there is none, it is reached from here")
	flags.BoolVar(&cfg.Subreaper, "subreaper", false, "adopt orphans although this is not the first process")
	if err := parse(flags, args, true, stderr); err != nil {
		return err
	}
	cfg.Args, cfg.Version, cfg.Slots = append([]string{"agent"}, flags.Args()...), version, slots.Dir(*releases)
	if err := os.MkdirAll(cfg.Runtime, 0o711); err != nil { //nolint:gosec // the engine's account looks for its socket in it
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	return guestinit.Run(context.Background(), cfg)
}

func guestFlags(name string, o *guestapp.Options) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&o.Data, "data", imagelayout.DataDir, "mount point of the data volume")
	flags.StringVar(&o.State, "state", "", "the agent's own directory (default: trove on the data volume)")
	flags.StringVar(&o.Runtime, "run", imagelayout.RunDir, "runtime directory, on a tmpfs")
	flags.StringVar(&o.Root, "root", "", "prefix of the product's programs")
	flags.StringVar(&o.User, "user", "", "account that the engine runs as (default: the engine's own)")
	flags.StringVar(&o.Address, "address", "", "address that the engine listens on (default: all)")
	return flags
}

func runAgent(args []string, log *slog.Logger, stderr io.Writer) error {
	o := guestapp.Options{Version: version, Log: log}
	flags := guestFlags("agent", &o)
	flags.StringVar(&o.Boot, "boot", imagelayout.BootFile, "boot data")
	flags.StringVar(&o.Releases, "releases", imagelayout.ReleasesDir, "directory of the agent's releases; used if the first process can switch between them")
	flags.StringVar(&o.ReleaseKeys, "release-keys", imagelayout.AgentKeys, "public keys of those who sign releases")
	flags.StringVar(&o.Management, "management", imagelayout.ManagementNetns, "network namespace from which controllers are reached; where there is none, they are reached from here")
	flags.BoolVar(&o.GrowVolume, "grow-volume", false, "the file system of the data volume is the guest's to grow, as in a virtual machine")
	flags.StringVar(&o.Console, "console", "", "device where the agent says in plain text what it does until it is on the bus")
	if err := parse(flags, args, false, stderr); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return guestapp.Agent(ctx, o)
}

func runInitialise(args []string, log *slog.Logger, stdout, stderr io.Writer) error {
	o := guestapp.Options{Version: version, Log: log}
	flags := guestFlags("initialise", &o)
	name := flags.String("engine", "", "the engine driver's name")
	if err := parse(flags, args, false, stderr); err != nil {
		return err
	}
	if *name == "" {
		fmt.Fprintln(stderr, "initialise: --engine is needed")
		return errUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return guestapp.Initialise(ctx, *name, o, stdout)
}

func printVersion(stdout io.Writer) error {
	fmt.Fprintln(stdout, "trove-guestagent", version)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return trove.Errorf(trove.KindInternal, "This binary does not say what it was built from.")
	}
	fmt.Fprintln(stdout, info.GoVersion)
	for _, m := range info.Deps {
		fmt.Fprintln(stdout, m.Path, m.Version)
	}
	return nil
}

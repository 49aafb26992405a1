package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/clock"
)

// agentCommand is `trove manage agent`: releases of the guest agent, before `trove agent upgrade` brings them into guests.
func agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "agent", Short: "Sign releases of the guest agent, and put them where the service finds them", Args: cobra.NoArgs,
		Long: `Sign releases of the guest agent, and put them where the service finds them.

A guest runs only what was signed with a key whose public half is in its image. The private key belongs on a machine without the service: keygen, sign and
verify touch no state directory and need no root.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(agentKeygen(), agentSign(), agentVerify(), agentAdd(), agentReleases(), agentTrust())
	return c
}

// underManage returns the command `trove manage`, which it makes if there is none.
func underManage(root *cobra.Command) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == "manage" {
			return c
		}
	}
	c := &cobra.Command{
		Use: "manage", Short: "Manage what belongs to the service", Args: cobra.NoArgs, GroupID: "service",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(c)
	return c
}

func agentKeygen() *cobra.Command {
	return &cobra.Command{
		Use: "keygen FILE", Short: "Make a key to sign releases with: FILE is the private one, FILE.pub the public one", Args: cobra.ExactArgs(1),
		Example: "  trove manage agent keygen /media/vault/agent-release",
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := agentrelease.GenerateKey(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%s is the private key: keep it away from the machines that run the service. %s.pub goes into images.\n", args[0], args[0])
			return nil
		},
	}
}

func agentSign() *cobra.Command {
	var key, version, arch, out string
	c := &cobra.Command{
		Use: "sign PROGRAM", Short: "Make a release of a program: a directory with it, its manifest and the signature", Args: cobra.ExactArgs(1),
		Example: "  trove manage agent sign bin/trove-guestagent --key /media/vault/agent-release --release 1.3.0",
		RunE: func(_ *cobra.Command, args []string) error {
			v, err := agentrelease.ParseVersion(version)
			if err != nil {
				return err
			}
			private, err := agentrelease.ReadPrivateKey(key)
			if err != nil {
				return err
			}
			m, err := agentrelease.Describe(args[0], v, "linux", arch)
			if err != nil {
				return err
			}
			m.Created = clock.System{}.Now().UTC().Truncate(time.Second)
			signed, err := agentrelease.Sign(private, m)
			if err != nil {
				return err
			}
			if out == "" {
				out = agentrelease.ProgramFile + "-" + v.String()
			}
			if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // a release is public
				return fmt.Errorf("make the release: %w", err)
			}
			if err := agentrelease.WriteProgram(args[0], filepath.Join(out, agentrelease.ProgramFile), m); err != nil {
				return err
			}
			if err := agentrelease.WriteSigned(out, signed); err != nil {
				return err
			}
			fmt.Fprintln(os.Stdout, out)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&key, "key", "", "the private key (required)")
	f.StringVar(&version, "release", "", "version that the program was built with, such as 1.3.0 (required)")
	f.StringVar(&arch, "arch", runtime.GOARCH, "processor that the program is for, as Go names it")
	f.StringVar(&out, "out", "", "directory to make (trove-guestagent-VERSION)")
	_ = c.MarkFlagRequired("key")
	_ = c.MarkFlagRequired("release")
	return c
}

func printRelease(m agentrelease.Manifest) {
	fmt.Fprintf(os.Stdout, "%-12s %s/%s  %9d bytes  sha256 %s  signed %s\n", m.Version, m.OS, m.Arch, m.Size, m.SHA256, m.Created.Format(time.RFC3339))
}

func agentVerify() *cobra.Command {
	var keys string
	c := &cobra.Command{
		Use: "verify DIRECTORY", Short: "Say whether a release is whole and signed by a key", Args: cobra.ExactArgs(1),
		Example: "  trove manage agent verify trove-guestagent-1.3.0 --keys agent-release.pub",
		RunE: func(_ *cobra.Command, args []string) error {
			trusted, err := agentrelease.ReadKeys(keys)
			if err != nil {
				return err
			}
			signed, err := agentrelease.ReadSigned(args[0])
			if err != nil {
				return err
			}
			m, err := agentrelease.Verify(trusted, signed)
			if err != nil {
				return err
			}
			if err := agentrelease.CheckProgram(args[0], m); err != nil {
				return err
			}
			printRelease(m)
			return nil
		},
	}
	c.Flags().StringVar(&keys, "keys", "", "file with public keys (required)")
	_ = c.MarkFlagRequired("keys")
	return c
}

func agentAdd() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use: "add DIRECTORY", Short: "Verify a release and give it to the service of a state directory", Args: cobra.ExactArgs(1),
		Example: "  trove manage agent add trove-guestagent-1.3.0",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, _, err := o.config()
			if err != nil {
				return err
			}
			m, err := app.Releases(cfg).Add(args[0])
			if err != nil {
				return err
			}
			printRelease(m)
			return nil
		},
	}
	o.flags(c)
	return c
}

func agentReleases() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use: "releases", Short: "List the releases that the service of a state directory has", Args: cobra.NoArgs,
		Example: "  trove manage agent releases",
		RunE: func(*cobra.Command, []string) error {
			cfg, _, err := o.config()
			if err != nil {
				return err
			}
			all, err := app.Releases(cfg).List()
			if err != nil {
				return err
			}
			for _, m := range all {
				printRelease(m)
			}
			return nil
		},
	}
	o.flags(c)
	return c
}

func agentTrust() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use: "trust FILE", Short: "Set the public keys that images are built with and releases verified with", Args: cobra.ExactArgs(1),
		Long: `Set the public keys that images are built with and releases verified with. While one key takes the place of another FILE has both. Images that are there
keep the keys that they were built with: build them anew.`,
		Example: "  cat old.pub new.pub >both.pub && trove manage agent trust both.pub",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, state, err := o.config()
			if err != nil {
				return err
			}
			if err := state.Make(); err != nil {
				return err
			}
			if err := app.SetReleaseKeys(cfg, args[0]); err != nil {
				return err
			}
			private := state.Path("keys", "agent-release")
			if _, err := os.Stat(private); err == nil {
				return trove.Errorf(trove.KindConflict, "The keys are set. %s is a private key that was made here before: remove it, so that nobody can sign with it.", private)
			}
			return nil
		},
	}
	o.flags(c)
	return c
}

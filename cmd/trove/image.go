package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/app"
)

func imageCommand() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use: "image", Short: "Build datastore images, and list those of the local cloud", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.flags(c)
	var spec image.DiskSpec
	var format, keys string
	build := &cobra.Command{
		Use: "build", Short: "Build a datastore image from the distribution's packages, or find it in place (root)", Args: cobra.NoArgs,
		Example: "  trove image build --datastore mariadb --datastore-version 10.11\n" +
			"  trove image build --datastore mariadb --datastore-version 10.11 --format qcow2 -o mariadb-10.11.qcow2",
		RunE: func(cmd *cobra.Command, _ []string) error { return imageBuild(cmd.Context(), o, spec, format, keys) },
	}
	f := build.Flags()
	f.StringVar(&spec.Datastore, "datastore", "", "datastore to build, see trove image recipes (required)")
	f.StringVar(&spec.Version, "datastore-version", "", "version of the datastore, see trove image recipes (required)")
	f.StringVar(&spec.AgentBinary, "agent", "", "the guest agent's binary (trove-guestagent beside this program)")
	f.BoolVar(&spec.Refresh, "refresh", false, "look into the package archive again although the root file system is there")
	f.StringVar(&spec.UpdateLock, "update-lock", "", "file to write the lock of package versions to")
	f.StringVar(&format, "format", formatLocal, "local: for the local cloud, into the state directory; qcow2: a whole disk for virtual machines, into a file")
	f.StringVarP(&spec.Output, "output", "o", "", "file of a whole disk; FILE.json beside it says what it is (DATASTORE-VERSION.qcow2)")
	f.StringVar(&keys, "ssh-key", "", "file with public keys of those who may log in as root in a whole disk (nobody may, and there is no server for it)")
	f.BoolVar(&spec.WithoutData, "without-data", false, "leave the initialised database out of a whole disk")
	_ = build.MarkFlagRequired("datastore")
	_ = build.MarkFlagRequired("datastore-version")
	list := &cobra.Command{
		Use: "list", Short: "List the images that are there", Args: cobra.NoArgs,
		Example: "  trove image list --state var/dev",
		RunE:    func(*cobra.Command, []string) error { return imageList(o) },
	}
	recipes := &cobra.Command{
		Use: "recipes", Short: "List what can be built", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := image.Recipes()
			if err != nil {
				return err
			}
			for _, r := range all {
				fmt.Fprintf(os.Stdout, "%-12s %s\n", r.Datastore, r.Version)
			}
			return nil
		},
	}
	c.AddCommand(build, list, recipes)
	return c
}

// The values of --format.
const (
	formatLocal = "local"
	formatQCOW2 = "qcow2"
)

func imageBuild(ctx context.Context, o stateOptions, spec image.DiskSpec, format, keys string) error {
	if os.Geteuid() != 0 {
		return trove.Errorf(trove.KindForbidden, "Building an image needs root: file systems are mounted. Run it with sudo.")
	}
	if err := diskOptions(&spec, format, keys); err != nil {
		return err
	}
	c, state, err := o.config()
	if err != nil {
		return err
	}
	if err := state.Make(); err != nil {
		return err
	}
	if spec.AgentBinary == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		spec.AgentBinary = filepath.Join(filepath.Dir(self), "trove-guestagent")
	}
	p := newProgress()
	defer p.end()
	spec.Progress = p.show
	if format == formatQCOW2 {
		m, err := app.BuildDisk(ctx, c, spec)
		if err != nil {
			return err
		}
		p.end()
		fmt.Fprintf(os.Stdout, "%s  %s %s (%s)  %s, %d MiB\n", m.ID, m.Datastore, m.Version, m.EngineVersion, spec.Output, m.Size>>20)
		return nil
	}
	m, err := app.BuildImage(ctx, c, spec.BuildSpec)
	if err != nil {
		return err
	}
	p.end()
	fmt.Fprintf(os.Stdout, "%s  %s %s (%s)\n", m.ID, m.Datastore, m.Version, m.EngineVersion)
	return nil
}

// diskOptions checks what is for a whole disk only.
func diskOptions(spec *image.DiskSpec, format, keys string) error {
	switch {
	case format != formatLocal && format != formatQCOW2:
		return trove.Errorf(trove.KindBadRequest, "There is no format %q of images; there are local and qcow2.", format)
	case format == formatLocal && (spec.Output != "" || keys != "" || spec.WithoutData):
		return trove.Errorf(trove.KindBadRequest, "--output, --ssh-key and --without-data are for --format qcow2.")
	case keys != "":
		data, err := os.ReadFile(keys)
		if err != nil {
			return trove.Wrap(trove.KindBadRequest, err, "The public keys in %s cannot be read.", keys)
		}
		if !strings.HasPrefix(string(data), "ssh-") && !strings.HasPrefix(string(data), "ecdsa-") && !strings.HasPrefix(string(data), "sk-") {
			return trove.Errorf(trove.KindBadRequest, "%s has no public keys, one a line, as OpenSSH writes them.", keys)
		}
		spec.SSHKeys = data
	}
	if spec.Output == "" {
		spec.Output = spec.Datastore + "-" + spec.Version + ".qcow2"
	}
	return nil
}

func imageList(o stateOptions) error {
	c, _, err := o.config()
	if err != nil {
		return err
	}
	all, err := image.List(app.ImagesDir(c))
	if err != nil {
		return err
	}
	for _, m := range all {
		fmt.Fprintf(os.Stdout, "%s  %-12s %-8s %s\n", m.ID, m.Datastore, m.Version, m.EngineVersion)
	}
	return nil
}

// progress shows the events of a build: one line drawn again on a terminal, a line for each sentence elsewhere.
type progress struct {
	interactive bool
	last        string
	percent     int
	drawn       bool
}

func newProgress() *progress { return &progress{interactive: environment().Interactive} }

func (p *progress) show(e image.Event) {
	if p.interactive {
		const width = 20
		filled := min(max(e.Percent, 0), 100) * width / 100
		fmt.Fprintf(os.Stderr, "\r\x1b[K[%s%s] %3d %% %s (%.0f s)", strings.Repeat("#", filled), strings.Repeat(".", width-filled), e.Percent, e.Sentence, e.Elapsed.Seconds())
		p.drawn = true
		return
	}
	// Sentences that differ in a count only are one, shown at every tenth of the way.
	kind := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, e.Sentence)
	if kind != p.last || e.Percent >= p.percent+10 {
		fmt.Fprintf(os.Stderr, "    %3d %% %s (%.0f s)\n", e.Percent, e.Sentence, e.Elapsed.Seconds())
		p.last, p.percent = kind, e.Percent
	}
}

func (p *progress) end() {
	if p.drawn {
		fmt.Fprintln(os.Stderr)
		p.drawn = false
	}
}

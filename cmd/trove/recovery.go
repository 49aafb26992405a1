package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client/cli"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/recovery"
)

const exportHelp = `Write one encrypted file with everything without which the service could not go on: a consistent copy of the store, all keys, the
configuration, and what is written down of machines, volumes and networks. The service may run meanwhile. The data of databases and the images are not in it.

Only the public halves of recovery keys are needed here: recovery.recipients in the configuration, or --recipient.`

const restoreHelp = `Put store, keys and records back from an export, on the machine and into the directory that it was made of. The whole file is checked before
anything is written; cut off, the same command goes on. The service must not run. At its next start it adopts the databases that run.

What is unknown to the restored store is listed and kept until "trove manage restore --finish".`

// recoveryOptions are the flags of trove manage export and restore.
type recoveryOptions struct {
	*stateOptions

	export  app.ExportRequest
	restore app.RestoreRequest
	inspect string
	now     bool
	finish  bool
	status  bool
	rescue  bool
}

// exportCommand is trove manage export.
func exportCommand(state *stateOptions) *cobra.Command {
	o := recoveryOptions{stateOptions: state}
	export := &cobra.Command{
		Use: "export", Short: "Write an encrypted copy of store and keys, or show what is in one", Long: exportHelp, Args: cobra.NoArgs,
		Example: "  trove manage export --output /mnt/safe/trove.export --recipient age1...\n  trove manage export --inspect /mnt/safe/trove.export --identity recovery.key",
		RunE:    func(cmd *cobra.Command, _ []string) error { return manageExport(cmd.Context(), o) },
	}
	f := export.Flags()
	f.StringVar(&o.export.Output, "output", "", "file to write (one named by the time in recovery.export_dir)")
	f.StringArrayVar(&o.export.Recipients, "recipient", nil, "public half of a recovery key, beside those of the configuration (may be repeated)")
	f.BoolVar(&o.now, "now", false, "into recovery.export_dir, as it is done at each recovery.interval")
	f.StringVar(&o.inspect, "inspect", "", "file to check and to show instead")
	f.StringVar(&o.restore.Identity, "identity", "", "file with the recovery key, for --inspect")
	export.MarkFlagsMutuallyExclusive("now", "output", "inspect")
	return export
}

// restoreCommand is trove manage restore.
func restoreCommand(state *stateOptions) *cobra.Command {
	o := recoveryOptions{stateOptions: state}
	restore := &cobra.Command{
		Use: "restore FILE", Short: "Put store and keys back from an export", Long: restoreHelp, Args: cobra.MaximumNArgs(1),
		Example: "  trove manage restore /mnt/safe/trove.export --identity recovery.key --state /var/lib/trove\n  trove manage restore --status\n  trove manage restore --finish",
		RunE:    func(cmd *cobra.Command, args []string) error { return manageRestore(cmd.Context(), o, args) },
	}
	f := restore.Flags()
	f.StringVar(&o.restore.Identity, "identity", "", "file with the recovery key")
	f.BoolVar(&o.restore.Force, "force", false, "move the store and the keys of a deployment aside that is there")
	f.BoolVar(&o.restore.Elsewhere, "elsewhere", false, "into another directory than the exported one: databases that run are not found from there")
	f.BoolVar(&o.status, "status", false, "show what the restored store does not know, what it knows and is not there, and creates that were cut off")
	f.BoolVar(&o.finish, "finish", false, "say that all is well: what nobody owns may be removed again")
	f.BoolVar(&o.rescue, "rescue-volumes", false, "save volumes whose files are gone while their databases run from them; these databases are stopped for it until the next start of the service")
	restore.MarkFlagsMutuallyExclusive("status", "finish", "rescue-volumes")
	return restore
}

// recoveryKeyCommand is trove manage recovery-key.
func recoveryKeyCommand() *cobra.Command {
	key := &cobra.Command{
		Use: "recovery-key", Short: "Make the key that opens exports", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	generate := &cobra.Command{
		Use: "generate", Short: "Make a recovery key and print its public half", Args: cobra.NoArgs,
		Example: "  trove manage recovery-key generate --output recovery.key",
		RunE: func(*cobra.Command, []string) error {
			recipient, err := recovery.GenerateKey(output)
			if err == nil {
				fmt.Fprintln(os.Stdout, recipient)
				fmt.Fprintf(os.Stderr, "The key is in %s: keep it where the loss of this machine does not reach it. Without it no export can be opened.\n", output)
			}
			return err
		},
	}
	generate.Flags().StringVar(&output, "output", "", "file for the key, which must not exist (required)")
	_ = generate.MarkFlagRequired("output")
	key.AddCommand(generate)
	return key
}

func manageExport(ctx context.Context, o recoveryOptions) error {
	if o.inspect != "" {
		m, err := app.InspectExport(o.inspect, o.restore.Identity)
		if err != nil {
			return err
		}
		return showManifest(os.Stdout, m)
	}
	if err := needRoot(); err != nil {
		return err
	}
	c, _, err := o.config()
	if err != nil {
		return err
	}
	path, m, err := app.Export(ctx, c, o.export)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, path)
	fmt.Fprintf(os.Stderr, "%d instances, %d files\n", m.Instances, len(m.Parts))
	return nil
}

func showManifest(w io.Writer, m recovery.Manifest) error {
	fmt.Fprintf(w, "deployment  %s (%s)\ncreated     %s by trove %s\ninstances   %d, operations under way %d\n", m.Deployment, m.State,
		m.CreatedAt.Format(time.RFC3339), m.TroveVersion, m.Instances, m.Operations)
	if m.Cloud != m.State {
		fmt.Fprintf(w, "cloud       %s\n", m.Cloud)
	}
	for _, i := range m.Images {
		fmt.Fprintf(w, "image       %s (%s %s), used by %d: %s\n", i.ID, i.Datastore, i.Version, i.Used, i.Build)
	}
	for _, name := range m.LeftOut {
		fmt.Fprintf(w, "left out    %s (too large to be a key or a record)\n", name)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nfile\tbytes\tmode\tsha-256")
	for _, p := range m.Parts {
		fmt.Fprintf(t, "%s\t%d\t%04o\t%s\n", p.Name, p.Size, p.Mode, p.SHA256)
	}
	return t.Flush()
}

func manageRestore(ctx context.Context, o recoveryOptions, args []string) error {
	if err := needRoot(); err != nil {
		return err
	}
	c, _, err := o.config()
	if err != nil {
		return err
	}
	switch {
	case o.status:
		return restoreStatus(ctx, c)
	case o.rescue:
		return app.Rescue(ctx, c, func(id string) { fmt.Fprintf(os.Stderr, "saving the volume of instance %s\n", id) })
	case o.finish:
		return app.FinishRestore(ctx, c)
	case len(args) == 0:
		return &cli.UsageError{Message: "manage restore needs FILE: the export to restore."}
	}
	o.restore.File = args[0]
	r, err := app.Restore(ctx, c, o.restore)
	if err != nil {
		return err
	}
	if r.Already {
		fmt.Fprintf(os.Stderr, "%s was restored from this export before; nothing was done\n", c.State)
		return nil
	}
	if r.Marker.Aside != "" {
		fmt.Fprintf(os.Stderr, "what was there is in %s\n", r.Marker.Aside)
	}
	for _, op := range r.Dropped {
		fmt.Fprintf(os.Stderr, "under way when the export was made, and closed: %s of instance %s\n", op.Kind, op.Target)
	}
	for _, id := range r.Nameless {
		fmt.Fprintf(os.Stderr, "instance %s runs from a volume whose file is gone: before anything restarts it, let `trove manage restore --rescue-volumes` save it\n", id)
	}
	for _, i := range missingImages(r) {
		fmt.Fprintf(os.Stderr, "build this image before databases are started anew: %s\n", i.Build)
	}
	fmt.Fprintf(os.Stderr, "%s was restored as of %s (%d instances). Start the service, look at `trove manage restore --status`, then say `trove manage restore --finish`.\n",
		c.State, r.Manifest.CreatedAt.Format(time.RFC3339), r.Manifest.Instances)
	return nil
}

// missingImages are those that instances run from and that are not on the disk any more.
func missingImages(r app.Restored) []recovery.Image {
	var all []recovery.Image
	for _, i := range r.Manifest.Images {
		if _, err := os.Stat(fmt.Sprintf("%s/images/%s/rootfs", r.Cloud, i.ID)); err != nil && i.Used > 0 {
			all = append(all, i)
		}
	}
	return all
}

func restoreStatus(ctx context.Context, c config.Config) error {
	m, there, err := recovery.ReadMarker(c.State)
	if err != nil {
		return err
	}
	if !there {
		return trove.Errorf(trove.KindNotFound, "No restore of %s is waiting to be finished.", c.State)
	}
	if err := recovery.Startable(c.State); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "restored %s from an export of %s\n", m.RestoredAt.Format(time.RFC3339), m.ExportedAt.Format(time.RFC3339))
	if c.Cloud == config.CloudOpenStack {
		fmt.Fprintln(os.Stdout, "servers and volumes of instances that are younger than the export are kept as they are; the taskmanager's log names them (things without an owner).")
		fmt.Fprintln(os.Stdout, "instances that were deleted since the export are in ERROR soon after the service has started, because their volume is gone: delete them.")
	}
	unknown, err := app.Unknown(ctx, c)
	if err != nil {
		return err
	}
	for _, t := range unknown {
		state := "not running"
		if t.Running {
			state = "running"
		}
		fmt.Fprintf(os.Stdout, "unknown  %s  %s  project %s, %d GiB, %s: younger than the export, kept as it is\n", t.Instance, t.Name, t.Project, t.SizeGiB, state)
	}
	absent, err := app.Absent(ctx, c)
	if err != nil {
		return err
	}
	for _, i := range absent {
		fmt.Fprintf(os.Stdout, "gone     %s  %s  project %s: its volume is not on this machine\n", i.ID, i.Name, i.ProjectID)
	}
	cut, err := app.CutOff(ctx, c)
	if err != nil {
		return err
	}
	for _, i := range cut {
		fmt.Fprintf(os.Stdout, "cut off  %s  %s  project %s: its create was under way at the export. If its database is in use, `trove instance reset-status %s` ends the ERROR; otherwise delete it\n",
			i.ID, i.Name, i.ProjectID, i.ID)
	}
	return nil
}

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// instanceUpgrade has one verb for the way there, the way back and the look before.
func (a *app) instanceUpgrade() *cobra.Command {
	var version string
	var check, rollback, confirm bool
	cmd := a.act(&cobra.Command{
		Use: "upgrade INSTANCE", Short: "Give the instance another datastore version, or go back", Args: cobra.ExactArgs(1),
		Long: `Give the instance another version of its datastore. The database is asked first what would fail (alone with --check), and stopped; its data is kept aside
before the new version touches it. What fails after that ends with the old version and its data. When all is done the old data stays on the volume until
--confirm drops it; until then --rollback goes back to it, and what was written since is lost. Without an option it is shown what is kept.`,
	}, func(ctx context.Context, c *client.Client, i wire.Instance, _ []string) error {
		switch {
		case rollback:
			return c.RollbackUpgrade(ctx, i.ID)
		case confirm:
			return c.ConfirmUpgrade(ctx, i.ID)
		case version == "" && check:
			return usagef("--check needs --datastore-version.")
		case version == "" || check:
			return a.showUpgrade(ctx, c, i, version)
		}
		return c.UpgradeInstance(ctx, i.ID, version)
	})
	f := cmd.Flags()
	f.StringVar(&version, "datastore-version", "", "name or id of the version")
	f.BoolVar(&check, "check", false, "only ask what a change to the version would meet")
	f.BoolVar(&rollback, "rollback", false, "go back to the version and the data of before the last upgrade")
	f.BoolVar(&confirm, "confirm", false, "drop the data of before the last upgrade")
	cmd.MarkFlagsMutuallyExclusive("check", "rollback", "confirm")
	cmd.MarkFlagsMutuallyExclusive("datastore-version", "rollback")
	cmd.MarkFlagsMutuallyExclusive("datastore-version", "confirm")
	return cmd
}

// showUpgrade shows what is kept, and the check if a version is given. A check that found something that blocks fails.
func (a *app) showUpgrade(ctx context.Context, c *client.Client, i wire.Instance, version string) error {
	u, err := c.Upgrade(ctx, i.ID, version)
	if err != nil {
		return err
	}
	var columns []string
	var r row
	if k := u.Kept; k != nil {
		columns, r = append(columns, "kept_version", "kept_since", "kept_bytes"), append(r, k.DatastoreVersion, stamp(&k.Since), k.Bytes)
	}
	if k := u.Check; k != nil {
		var block, know []string
		for _, f := range k.Findings {
			if f.Blocks {
				block = append(block, f.Sentence)
			} else {
				know = append(know, f.Sentence)
			}
		}
		columns = append(columns, "from", "to", "possible", "blocks", "notes", "data_bytes", "free_bytes")
		r = append(r, k.From, k.DatastoreVersion, k.Possible, block, know, k.Bytes, k.Free)
	}
	if len(columns) == 0 {
		columns, r = []string{"kept_version"}, row{nil}
	}
	if err := a.show(columns, r); err != nil {
		return err
	}
	if u.Check != nil && !u.Check.Possible {
		return &failedError{"The upgrade would be refused."}
	}
	return nil
}

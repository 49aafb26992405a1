package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/internal/app"
)

const manageHelp = `Manage what the service on this machine offers and to whom, its keys and certificates, and save all of it from the loss of its disk (root). The
service may run meanwhile, but for a restore, and databases are not touched.

docs/operators/keys.md says which keys there are, how each is replaced, and what to do after one was stolen; docs/operators/recovery.md is about exports.`

type manageOptions struct {
	stateOptions
	master string // file of the master key
}

func manageCommand() *cobra.Command {
	var o manageOptions
	c := &cobra.Command{
		Use: "manage", Short: "Store, datastores, quotas, keys, certificates, exports and restores of the service (root)", Long: manageHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.flags(c)
	ca := &cobra.Command{Use: "ca", Short: "The certificate authority that guests believe", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	ca.AddCommand(caStatusCommand(&o), caRollCommand(&o))
	key := &cobra.Command{Use: "key", Short: "The master key that seals secrets in the store", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	key.AddCommand(keyStatusCommand(&o), keyRotateCommand(&o), keyResealCommand(&o), keyPruneCommand(&o), keyPrepareCommand(&o), keyRenewBusCommand(&o), keyCopyCommand(&o))
	ca.PersistentFlags().StringVar(&o.master, "master-key", "", "file of the master key, where systemd hands it over to the service")
	key.PersistentFlags().StringVar(&o.master, "master-key", "", "file of the master key, where systemd hands it over to the service")
	guest := &cobra.Command{Use: "guest", Short: "Guests that the service does not trust any more", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	guest.AddCommand(guestClearCommand(&o))
	c.AddCommand(storeCommands(&o.stateOptions)...)
	c.AddCommand(ca, databaseCACommand(&o), key, guest, adoptCommand(&o), parametersCommand(&o), exportCommand(&o.stateOptions), restoreCommand(&o.stateOptions), recoveryKeyCommand())
	return c
}

// withKeys runs f with the keys of the state directory.
func (o *manageOptions) withKeys(ctx context.Context, f func(k *app.Keys) error) error {
	c, _, err := o.config()
	if err != nil {
		return err
	}
	k, err := app.OpenKeys(ctx, c, o.master)
	if err != nil {
		return err
	}
	return errors.Join(f(k), k.Close())
}

func caStatusCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the CA, how far its replacement has come, and what is waited for", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				r, err := k.CA(cmd.Context())
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stdout, "phase: %s\n", r.Phase)
				for _, c := range r.CAs {
					signs := ""
					if c.Signs {
						signs = ", signs"
					}
					fmt.Fprintf(os.Stdout, "CA %s: made %s, until %s%s\n", c.Fingerprint, c.Made.Format(time.DateTime), c.Expires.Format(time.DateTime), signs)
				}
				fmt.Fprintf(os.Stdout, "guests: %d, of which %d know what is told now\n", r.Guests, r.Told)
				if len(r.Waiting) > 0 {
					fmt.Fprintf(os.Stdout, "waiting for %d: %s\n", len(r.Waiting), strings.Join(r.Waiting[:min(20, len(r.Waiting))], " "))
				}
				return nil
			})
		},
	}
}

const rollHelp = `Begin to replace the CA. The service goes on by itself: all guests are told the next CA; when those that can be reached have it, it signs the
servers' certificates; when all have it, the old CA is dropped. A guest that sleeps keeps the last step waiting and is not lost: until the old CA
expires servers show that it trusts the new one.

With --force a replacement that is under way goes one step further without waiting.`

func caRollCommand(o *manageOptions) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "roll", Short: "Begin to replace the CA, or take a replacement further with --force", Long: rollHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				began, err := k.RollCA(cmd.Context(), force)
				if err != nil {
					return err
				}
				r, err := k.CA(cmd.Context())
				if err != nil {
					return err
				}
				if began {
					fmt.Fprintln(os.Stdout, "the replacement has begun")
				}
				fmt.Fprintf(os.Stdout, "phase: %s, waiting for %d of %d guests\n", r.Phase, len(r.Waiting), r.Guests)
				return nil
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "do not wait for guests that have not heard of the step before")
	return c
}

func keyStatusCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the master keys and how much is sealed under each", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				keys, unlisted, err := k.MasterKeys(cmd.Context())
				if err != nil {
					return err
				}
				for _, key := range keys {
					made, seals := "with the first start", ""
					if !key.Made.IsZero() {
						made = key.Made.Format(time.DateTime)
					}
					if key.Seals {
						seals = ", seals"
					}
					if key.Next {
						seals = ", the next one"
					}
					fmt.Fprintf(os.Stdout, "key %s: made %s, %d texts%s\n", key.ID, made, key.Texts, seals)
				}
				for place, n := range unlisted {
					fmt.Fprintf(os.Stdout, "%d texts in %s are not sealed anew with a rotation\n", n, place)
				}
				return nil
			})
		},
	}
}

const rotateHelp = `Make a new master key and seal everything in the store anew with it. Old keys stay in the file until "trove manage key prune". If a rotation
was cut off before it is finished instead; run it again to make another key.

Where systemd hands the key over (--master-key), the service has a copy of the file: restart every controller after this command, then run
"trove manage key reseal".`

func keyRotateCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Make a new master key and seal everything anew with it", Long: rotateHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				r, err := k.RotateMasterKey(cmd.Context())
				switch {
				case err != nil:
					return err
				case r.Restart:
					fmt.Fprintln(os.Stdout, "a new key is in the file; restart every controller, then run: trove manage key reseal --master-key", o.master)
				case r.Made:
					fmt.Fprintf(os.Stdout, "a new key seals; %d texts were sealed anew\n", r.Changed)
				default:
					fmt.Fprintf(os.Stdout, "a rotation that was cut off is finished; %d texts were sealed anew\n", r.Changed)
				}
				return nil
			})
		},
	}
}

func keyResealCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "reseal", Short: "Seal everything anew with the newest master key", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				n, err := k.Reseal(cmd.Context())
				fmt.Fprintf(os.Stdout, "%d texts were sealed anew\n", n)
				return err
			})
		},
	}
}

func keyPruneCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "prune", Short: "Drop master keys that nothing is sealed under any more", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				dropped, err := k.PruneMasterKeys(cmd.Context())
				fmt.Fprintf(os.Stdout, "%d keys were dropped %s\n", len(dropped), strings.Join(dropped, " "))
				return err
			})
		},
	}
}

func guestClearCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "clear INSTANCE", Short: "Trust a guest again that was revoked or whose machine was copied", Args: cobra.ExactArgs(1),
		Long: "Trust a guest again: after its key was revoked for flooding the bus, or after a copy of its machine was removed. Find the cause first.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				if err := k.ClearGuest(cmd.Context(), args[0]); err != nil {
					return err
				}
				fmt.Fprintln(os.Stdout, "the guest is trusted again; it comes back within a minute or two")
				return nil
			})
		},
	}
}

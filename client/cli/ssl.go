package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) sslCmd() *cobra.Command {
	return group("ssl", "TLS between an instance and its clients", a.sslShow(), a.sslCA(), a.sslEnable(),
		a.sslChange(&cobra.Command{Use: "disable INSTANCE", Short: "Switch TLS off, with the next restart"}, wire.SSLAction{Disable: true}),
		a.sslChange(&cobra.Command{Use: "rollback INSTANCE", Short: "Take back the last change of TLS"}, wire.SSLAction{Rollback: true}))
}

func (a *app) sslShow() *cobra.Command {
	var payload bool
	cmd := a.onInstance(&cobra.Command{Use: "show INSTANCE", Short: "Show how TLS is, and the server's certificate", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			s, err := c.SSL(ctx, instance, payload)
			if err != nil {
				return err
			}
			columns, r := []string{"status", "mode"}, row{s.Status, s.Mode}
			if s.Certificate != nil {
				columns, r = append(columns, "cn", "expire_at", "san"), append(r, s.Certificate.CN, stamp(&s.Certificate.ExpireAt), s.Certificate.SAN)
			}
			if payload && s.Certificate != nil {
				columns, r = append(columns, "certificate"), append(r, s.Certificate.Payload)
			}
			return a.show(columns, r)
		})
	cmd.Flags().BoolVar(&payload, "include-certificate", false, "show the certificate itself too, as PEM")
	return cmd
}

func (a *app) sslCA() *cobra.Command {
	return a.onInstance(&cobra.Command{
		Use: "ca INSTANCE", Short: "Print the certificates of the authorities that a client verifies the database with, as PEM", Args: cobra.ExactArgs(1),
		Long: `Print the certificates of the authorities that a client verifies the database with, as PEM. They are the same for all databases of the deployment; fetch them
again at least once a year. A database shows its instance id, its addresses and its host name.`,
	}, func(ctx context.Context, c *client.Client, instance string, _ []string) error {
		s, err := c.SSL(ctx, instance, true)
		switch {
		case err != nil:
			return err
		case s.Certificate == nil:
			return trove.Errorf(trove.KindBadRequest, "TLS is off: switch it on with: trove ssl enable %s", instance)
		case s.Certificate.Authorities == "":
			return trove.Errorf(trove.KindNotFound, "The database of %s shows a certificate that the service did not make: it was given one, or waits for its first.", instance)
		}
		_, err = fmt.Fprint(a.env.Stdout, s.Certificate.Authorities)
		return err
	})
}

func (a *app) sslEnable() *cobra.Command {
	change := wire.SSLAction{Enable: true}
	files := map[string]*string{"certificate": &change.Certificate, "private-key": &change.PrivateKey, "ca-certificates": &change.CACertificates}
	paths := map[string]*string{}
	cmd := &cobra.Command{
		Use: "enable INSTANCE", Short: "Switch TLS on, or change its mode or certificate",
		Long: `Switch TLS on, or change its mode or certificate. Without a certificate of yours the server shows the one that the service makes. Clients may use TLS
(basic), must use it (enforced), or must show a certificate of the given authorities (mtls).`,
	}
	a.onChange(cmd, func() (wire.SSLAction, error) {
		for name, into := range files {
			if *paths[name] == "" {
				continue
			}
			data, err := os.ReadFile(*paths[name])
			if err != nil {
				return change, fmt.Errorf("read --%s: %w", name, err)
			}
			*into = string(data)
		}
		return change, nil
	})
	f := cmd.Flags()
	f.StringVar(&change.Mode, "mode", "basic", "basic, enforced or mtls")
	paths["certificate"] = f.String("certificate", "", "file of the certificate, PEM, followed by those between it and its authority")
	paths["private-key"] = f.String("private-key", "", "file of its key, PEM")
	paths["ca-certificates"] = f.String("ca-certificates", "", "file of the authorities of clients, PEM")
	return cmd
}

func (a *app) sslChange(cmd *cobra.Command, change wire.SSLAction) *cobra.Command {
	a.onChange(cmd, func() (wire.SSLAction, error) { return change, nil })
	return cmd
}

// onChange makes a command of a change of TLS, and says what is left to do.
func (a *app) onChange(cmd *cobra.Command, what func() (wire.SSLAction, error)) {
	cmd.Args = cobra.ExactArgs(1)
	a.onInstance(cmd, func(ctx context.Context, c *client.Client, instance string, _ []string) error {
		change, err := what()
		if err != nil {
			return err
		}
		restart, err := c.ChangeSSL(ctx, instance, change)
		if err != nil {
			return err
		}
		if restart {
			fmt.Fprintf(a.env.Stderr, "The change is taken up with a restart: trove instance restart %s\n", instance)
		}
		return nil
	})
}

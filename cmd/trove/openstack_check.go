package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client/cli"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

const openstackCheckHelp = `Look whether all is there that the service needs in an OpenStack, and change nothing: each thing that trove openstack bootstrap makes; whether the service user
can log in and finds the management network; whether the controllers' ports are open at the address that guests are told; whether the API answers where the catalogue
says; how many addresses and how much of the quotas are left. What is missing is named with the command that mends it.

With --probe a guest is booted on the management network from an image, as the service would do it, with a token that is worth nothing, until it has spoken with the
enrolment endpoint; then it is removed. It takes a server, a volume of 1 GiB, and as long as a guest takes to boot.

The exit code is 0 when all is well, 1 with warnings, and 2 when something is missing or the check could not be made.`

type probeOptions struct {
	on      bool
	image   string
	flavor  string
	master  string
	timeout time.Duration
}

func openstackCheckCommand() *cobra.Command {
	var o openstackOptions
	var p probeOptions
	c := &cobra.Command{
		Use: "check", Short: "Say what is missing in an OpenStack, and the command that mends it", Long: openstackCheckHelp, Args: cobra.NoArgs,
		Example: `  trove openstack check --admin-rc admin-openrc
  trove openstack check --instances 200 --probe --image mariadb-10.11.qcow2 -f json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			worst, err := runOpenStackCheck(cmd.Context(), cmd, &o, p)
			if err != nil {
				message, _ := cli.Explain(err)
				fmt.Fprintln(os.Stderr, "error:", message)
				worst = bootstrap.Missing
			}
			if worst == bootstrap.Fine {
				return nil
			}
			return &exitError{int(worst)}
		},
	}
	o.flags(c)
	o.sizeFlags(c, 1, "instances that there shall be room for")
	f := c.Flags()
	f.BoolVar(&p.on, "probe", false, "boot a guest and wait until it has reached the controller")
	f.StringVar(&p.image, "probe-image", "", "id of the image that it boots from (the first --image)")
	f.StringVar(&p.flavor, "probe-flavor", "", "name of its flavor (the smallest)")
	f.StringVar(&p.master, "master-key", "", "file of the master key, where systemd hands it over to the service")
	f.DurationVar(&p.timeout, "probe-timeout", 10*time.Minute, "how long it may take")
	return c
}

// runOpenStackCheck returns the worst of what it found.
func runOpenStackCheck(ctx context.Context, c *cobra.Command, o *openstackOptions, p probeOptions) (bootstrap.Level, error) {
	s, err := o.login(ctx, c)
	if err != nil {
		return bootstrap.Missing, err
	}
	defer func() { _ = s.session.Close() }()
	s.w.ConfigFile = o.file
	if s.w.ConfigFile == "" {
		s.w.ConfigFile = app.StateDir(s.cfg.State).ConfigFile()
	}
	found, err := s.b.Look(ctx, s.w)
	if err != nil {
		return bootstrap.Missing, err
	}
	if len(s.w.Endpoints) == 0 { // nobody said where it shall be: then it is where clients look for it
		s.w.Endpoints = bootstrap.InCatalogue(s.w, found)
	}
	steps, err := bootstrap.Plan(s.w, found)
	if err != nil {
		return bootstrap.Missing, err
	}
	findings := bootstrap.Judge(s.w, found, steps)
	if len(s.w.Only) == 0 {
		client, err := s.client()
		if err != nil {
			return bootstrap.Missing, err
		}
		findings = append(findings, s.b.CheckEnds(ctx, s.w, found, bootstrap.Ends{LogIn: s.asService, Dial: (&net.Dialer{}).DialContext, HTTP: client})...)
	}
	if p.on {
		n, err := s.probe(ctx, found, p)
		if err != nil {
			return bootstrap.Missing, errors.Join(err, printFindings(o.format, findings))
		}
		findings = append(findings, n)
	}
	worst := bootstrap.Fine
	for i := range findings {
		worst = max(worst, findings[i].Level)
		findings[i].Command = repeated(c, findings[i].Command)
	}
	return worst, printFindings(o.format, findings)
}

// repeated adds to a command that mends something the options of this call that hold for it as well: without them it would look elsewhere.
func repeated(c *cobra.Command, command string) string {
	var names []string
	switch {
	case strings.HasPrefix(command, "trove service install"):
		names = []string{"config", "state"}
	case strings.HasPrefix(command, "trove openstack bootstrap"):
		c.Flags().Visit(func(f *pflag.Flag) {
			if !slices.Contains([]string{"instances", "only", "image", "format", "probe", "probe-image", "probe-flavor", "probe-timeout", "master-key"}, f.Name) {
				names = append(names, f.Name)
			}
		})
	}
	for _, name := range names {
		f := c.Flags().Lookup(name)
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if f.Changed {
				command += fmt.Sprintf(" --%s=%s", name, v)
			}
		}
	}
	return command
}

// client asks the API where the catalogue says. The API's certificate may be of the authority that OpenStack's are of, or of one that this machine knows.
func (s *openstack) client() (*http.Client, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	if s.w.CAFile == "" {
		return client, nil
	}
	text, err := os.ReadFile(s.w.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authorities of OpenStack: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(text)
	client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}
	return client, nil
}

// asService logs in as the service user.
func (s *openstack) asService(ctx context.Context) (bootstrap.Services, error) {
	session, err := osclient.New(ctx, osclient.Config{
		AuthURL: s.w.AuthURL, Username: s.w.User, UserDomain: s.w.UserDomain, Project: s.w.Project, ProjectDomain: s.w.ProjectDomain, Region: s.w.Region,
		Interface: s.cfg.OpenStack.Interface, CAFile: s.w.CAFile, Timeout: s.cfg.OpenStack.RequestTimeout, Log: slog.New(slog.DiscardHandler),
		Password: func() (trove.Secret, error) {
			data, err := keyfile.Load(s.w.PasswordFile)
			line, _, _ := strings.Cut(string(data), "\n")
			return trove.Secret(strings.TrimRight(line, "\r")), err
		},
	})
	if err != nil {
		return nil, err
	}
	return session, nil
}

// probe boots a guest as the service user.
func (s *openstack) probe(ctx context.Context, found bootstrap.Found, p probeOptions) (bootstrap.Finding, error) {
	image := p.image
	if image == "" {
		for _, i := range found.Images {
			if len(s.w.Images) > 0 && i.Trove == s.w.Images[0].Manifest.ID && i.Status == "active" {
				image = i.ID
			}
		}
	}
	if image == "" {
		return bootstrap.Finding{}, trove.Errorf(trove.KindBadRequest, "A probe boots from an image: give the file of one that is uploaded with --image, or its id with --probe-image.")
	}
	bundle, err := app.CABundle(ctx, s.cfg, p.master)
	if err != nil {
		return bootstrap.Finding{}, err
	}
	as, err := s.asService(ctx)
	if err != nil {
		return bootstrap.Finding{}, err
	}
	show := func(what string) { fmt.Fprintln(os.Stderr, "probe:", what) }
	return s.b.Probe(ctx, s.w, found, as, bootstrap.ProbeSpec{
		Image: image, Flavor: p.flavor, VolumeType: s.cfg.OpenStack.VolumeType, Zone: s.cfg.OpenStack.AvailabilityZone,
		InZone: s.cfg.OpenStack.VolumeInZone, CABundle: bundle, EnrolPort: s.cfg.Bus.EnrolPort, Timeout: p.timeout,
	}, show)
}

func printFindings(format string, all []bootstrap.Finding) error {
	if format == "json" {
		type line struct {
			bootstrap.Finding

			State string `json:"state"`
		}
		lines := make([]line, 0, len(all))
		for _, n := range all {
			lines = append(lines, line{n, n.Level.String()})
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(lines)
	}
	counts := map[bootstrap.Level]int{}
	for _, n := range all {
		counts[n.Level]++
		first, more, _ := strings.Cut(n.Detail, "\n")
		fmt.Fprintf(os.Stdout, "%-8s  %-17s  %s: %s\n", n.Level, n.Part, n.Name, first)
		for line := range strings.Lines(more) {
			fmt.Fprintf(os.Stdout, "%-8s  %-17s  %s\n", "", "", strings.TrimSuffix(line, "\n"))
		}
		if n.Command != "" {
			fmt.Fprintf(os.Stdout, "%-8s  %-17s  mend it: %s\n", "", "", n.Command)
		}
	}
	fmt.Fprintf(os.Stdout, "\n%d ok, %d warnings, %d missing\n", counts[bootstrap.Fine], counts[bootstrap.Warning], counts[bootstrap.Missing])
	return nil
}

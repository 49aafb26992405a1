package app

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// deploymentKey is under which the deployment's name for its things in a cloud is kept. All hosts of the deployment read the same.
const deploymentKey = "cloud-deployment"

// openStackLook is how often the reconcilers look at an OpenStack: at the instances of which something says that they are not well, and seldom at all.
const openStackLook = time.Minute

// lookAgain is how often the reconcilers look at everything, 0 for the usual time.
func (c *controllers) lookAgain() time.Duration {
	if c.cfg.Cloud == config.CloudOpenStack {
		return openStackLook
	}
	return 0
}

// openStack opens the OpenStack of the configuration. It is an OpenCloud.
func (c *controllers) openStack(ctx context.Context) (cloud.Provider, func() error, error) {
	s, err := c.openStackSession(ctx)
	if err != nil {
		return nil, nil, err
	}
	id, err := c.keys.LoadOrMake(ctx, deploymentKey, func() ([]byte, error) { return []byte(trove.NewID()), nil })
	if err != nil {
		return nil, nil, fmt.Errorf("name the deployment: %w", err)
	}
	o := c.cfg.OpenStack
	var names cloud.Names // nil: instances have none
	if o.DNSZone != "" {
		if names, err = openstack.NewNames(s, o.DNSZone); err != nil {
			return nil, nil, err
		}
	}
	p, err := openstack.New(openstack.Config{
		Names: names, Session: s, Deployment: string(id), Log: c.log,
		ManagementNetwork: o.ManagementNetwork, ManagementSecurityGroup: o.ManagementSecurityGroup, IsolateManagement: o.ManagementIsolation,
		PublicNetwork: o.PublicNetwork, DefaultNetwork: o.DefaultNetwork, Zone: o.AvailabilityZone, VolumeType: o.VolumeType, VolumeInZone: o.VolumeInZone,
		BootTimeout: o.BootTimeout, VolumeTimeout: o.VolumeTimeout, PortTimeout: o.PortTimeout, ResizeTimeout: o.ResizeTimeout,
	})
	if err != nil {
		return nil, nil, err
	}
	return p, func() error { return nil }, nil
}

// openStackSession logs in to the OpenStack of the configuration, once for all that need it. While Keystone is away it waits; a login that is refused is an error.
func (c *controllers) openStackSession(ctx context.Context) (*osclient.Session, error) {
	if c.session != nil {
		return c.session, nil
	}
	cfg := c.openStackConfig()
	if _, err := cfg.Password(); err != nil { // what is wrong from the beginning is known at the start
		return nil, err
	}
	const first, longest = time.Second, 15 * time.Second
	for pause := first; ; pause = min(2*pause, longest) {
		s, err := osclient.New(ctx, cfg)
		if err == nil {
			c.session = s
			c.closing(s.Close)
			return s, nil
		}
		if trove.KindOf(err) != trove.KindUnavailable || osclient.Is(err, http.StatusUnauthorized, http.StatusForbidden) {
			return nil, fmt.Errorf("log in to OpenStack: %w", err)
		}
		c.log.WarnContext(ctx, "OpenStack is not there: this process waits for it", "err", err)
		if err := clock.Sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (c *controllers) openStackConfig() osclient.Config {
	o := c.cfg.OpenStack
	return osclient.Config{
		AuthURL: o.AuthURL, Username: o.Username, UserDomain: o.UserDomain, Project: o.Project, ProjectDomain: o.ProjectDomain, Region: c.cfg.Region,
		Interface: o.Interface, CAFile: o.CAFile, Timeout: o.RequestTimeout, Log: c.log, Metrics: c.metrics, Password: openStackPassword(c.cfg),
	}
}

// openStackPassword reads the password of the service user, each time it is called.
func openStackPassword(cfg config.Config) func() (trove.Secret, error) {
	path := cfg.OpenStack.PasswordFile
	if !filepath.IsAbs(path) {
		path = StateDir(cfg.State).Path(path)
	}
	return func() (trove.Secret, error) {
		data, err := keyfile.Load(path)
		if err != nil {
			return "", fmt.Errorf("openstack.password_file: %w", err)
		}
		return passwordIn(data), nil
	}
}

// passwordIn is the password in a file: its first line, as bootstrap and check of trove openstack read it.
func passwordIn(data []byte) trove.Secret {
	line, _, _ := strings.Cut(string(data), "\n")
	return trove.Secret(strings.TrimRight(line, "\r"))
}

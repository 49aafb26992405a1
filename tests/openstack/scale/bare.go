package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// bare makes servers as a script would that trusts that nothing goes wrong: each thing once, no tags, no look at what is there, the waiting of a patient client.
type bare struct {
	options
	session                          *osclient.Session
	nova, cinder, neutron            *gophercloud.ServiceClient
	image, flavor                    string
	network, managementNetwork, from string // from: the security group of management ports
	turn                             chan struct{}
}

// made is one server with what belongs to it.
type made struct{ group, port, management, volume, server string }

func newBare(ctx context.Context, o options) (*bare, error) {
	b := &bare{options: o, turn: make(chan struct{}, o.parallel)}
	var err error
	if b.session, err = newSession(ctx, o); err != nil {
		return nil, err
	}
	var errs [3]error
	b.nova, errs[0] = b.session.Compute()
	b.cinder, errs[1] = b.session.Volume()
	b.neutron, errs[2] = b.session.Network()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	b.nova.Microversion = "2.52"
	return b, b.look(ctx)
}

// newSession logs the service's user in.
func newSession(ctx context.Context, o options) (*osclient.Session, error) {
	return osclient.New(ctx, osclient.Config{
		AuthURL: "http://" + controller + ":5000/v3", Username: "trove", Project: "service", Region: "RegionOne", Timeout: 3 * time.Minute,
		Log: slog.New(slog.DiscardHandler),
		Password: func() (trove.Secret, error) {
			data, err := os.ReadFile(filepath.Join(o.dir, "keys", "openstack-password"))
			return trove.Secret(strings.TrimSpace(string(data))), err
		},
	})
}

// look finds what all servers share.
func (b *bare) look(ctx context.Context) error {
	glance, err := b.session.Image()
	if err != nil {
		return err
	}
	if b.image, err = imageOf(ctx, glance); err != nil {
		return err
	}
	if b.flavor, err = flavorOf(ctx, b.nova); err != nil {
		return err
	}
	for name, into := range map[string]*string{tenant: &b.network, management: &b.managementNetwork} {
		pages, err := networks.List(b.neutron, networks.ListOpts{Name: name}).AllPages(ctx)
		if err != nil {
			return err
		}
		all, err := networks.ExtractNetworks(pages)
		if err != nil || len(all) != 1 {
			return fmt.Errorf("there are %d networks %s: %w", len(all), name, err)
		}
		*into = all[0].ID
	}
	pages, err := groups.List(b.neutron, groups.ListOpts{Name: management}).AllPages(ctx)
	if err != nil {
		return err
	}
	all, err := groups.ExtractGroups(pages)
	if err != nil || len(all) == 0 {
		return fmt.Errorf("there is no security group %s: %w", management, err)
	}
	b.from = all[0].ID
	return nil
}

func imageOf(ctx context.Context, glance *gophercloud.ServiceClient) (string, error) {
	pages, err := images.List(glance, images.ListOpts{Name: imageName}).AllPages(ctx)
	if err != nil {
		return "", err
	}
	all, err := images.ExtractImages(pages)
	if err != nil || len(all) == 0 {
		return "", fmt.Errorf("there is no image %s: %w", imageName, err)
	}
	return all[0].ID, nil
}

func flavorOf(ctx context.Context, nova *gophercloud.ServiceClient) (string, error) {
	pages, err := flavors.ListDetail(nova, nil).AllPages(ctx)
	if err != nil {
		return "", err
	}
	all, err := flavors.ExtractFlavors(pages)
	if err != nil {
		return "", err
	}
	for _, f := range all {
		if f.Name == flavorName {
			return f.ID, nil
		}
	}
	return "", fmt.Errorf("there is no flavor %s", flavorName)
}

// ask makes a request when it is its turn.
func (b *bare) ask(f func() error) error {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	return f()
}

// until asks with growing pauses, those of the service, until it is so.
func (b *bare) until(ctx context.Context, f func() (bool, error)) error {
	for pause := 500 * time.Millisecond; ; pause = min(pause*5/4, 15*time.Second) {
		var done bool
		err := b.ask(func() (err error) { done, err = f(); return err })
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// each does something for all at the same time.
func each[T any](list []T, f func(i int, t *T) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() { errs[i] = f(i, &list[i]) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// create makes n servers and returns when all are ACTIVE.
func (b *bare) create(ctx context.Context, n int) ([]made, time.Duration, error) {
	all := make([]made, n)
	began := time.Now()
	err := each(all, func(i int, m *made) error { return b.one(ctx, fmt.Sprintf("bare-%03d", i), m) })
	return all, time.Since(began), err
}

func (b *bare) one(ctx context.Context, name string, m *made) error {
	volume := make(chan error, 1)
	go func() { volume <- b.makeVolume(ctx, name, m) }()
	if err := errors.Join(b.makePorts(ctx, name, m), <-volume); err != nil {
		return err
	}
	drive := true
	err := b.ask(func() error {
		s, err := servers.Create(ctx, b.nova, servers.CreateOpts{
			Name: name, FlavorRef: b.flavor, ImageRef: b.image, ConfigDrive: &drive, UserData: []byte(base64.StdEncoding.EncodeToString([]byte(name))),
			Networks: []servers.Network{{Port: m.port}, {Port: m.management}},
			BlockDevice: []servers.BlockDevice{
				{SourceType: servers.SourceImage, UUID: b.image, DestinationType: servers.DestinationLocal, BootIndex: 0, DeleteOnTermination: true},
				{SourceType: servers.SourceVolume, UUID: m.volume, DestinationType: servers.DestinationVolume, BootIndex: -1},
			},
		}, nil).Extract()
		if err == nil {
			m.server = s.ID
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.until(ctx, func() (bool, error) {
		s, err := servers.Get(ctx, b.nova, m.server).Extract()
		if err == nil && s.Status == "ERROR" {
			err = fmt.Errorf("server %s is in ERROR: %s", name, s.Fault.Message)
		}
		return err == nil && s.Status == "ACTIVE", err
	})
}

func (b *bare) makePorts(ctx context.Context, name string, m *made) error {
	err := b.ask(func() error {
		g, err := groups.Create(ctx, b.neutron, groups.CreateOpts{Name: name}).Extract()
		if err == nil {
			m.group = g.ID
		}
		return err
	})
	for _, family := range []rules.RuleEtherType{rules.EtherType4, rules.EtherType6} {
		if err == nil {
			err = b.ask(func() error {
				return rules.Create(ctx, b.neutron, rules.CreateOpts{
					Direction: rules.DirIngress, EtherType: family, SecGroupID: m.group, Protocol: rules.ProtocolTCP, PortRangeMin: 3306, PortRangeMax: 3306,
				}).Err
			})
		}
	}
	for _, p := range []struct {
		network, group string
		into           *string
	}{{b.network, m.group, &m.port}, {b.managementNetwork, b.from, &m.management}} {
		if err == nil {
			err = b.ask(func() error {
				made, err := ports.Create(ctx, b.neutron, ports.CreateOpts{NetworkID: p.network, Name: name, SecurityGroups: &[]string{p.group}}).Extract()
				if err == nil {
					*p.into = made.ID
				}
				return err
			})
		}
	}
	return err
}

func (b *bare) makeVolume(ctx context.Context, name string, m *made) error {
	err := b.ask(func() error {
		v, err := volumes.Create(ctx, b.cinder, volumes.CreateOpts{Name: name, Size: 1}, nil).Extract()
		if err == nil {
			m.volume = v.ID
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.until(ctx, func() (bool, error) {
		v, err := volumes.Get(ctx, b.cinder, m.volume).Extract()
		if err == nil && v.Status == "error" {
			err = fmt.Errorf("volume %s is in error", name)
		}
		return err == nil && v.Status == "available", err
	})
}

// remove removes what create made.
func (b *bare) remove(ctx context.Context, all []made) error {
	return each(all, func(_ int, m *made) error {
		if m.server != "" {
			if err := b.ask(func() error { return servers.Delete(ctx, b.nova, m.server).Err }); err != nil {
				return err
			}
			err := b.until(ctx, func() (bool, error) {
				err := servers.Get(ctx, b.nova, m.server).Err
				return isNotFound(err), ignoreNotFound(err)
			})
			if err != nil {
				return err
			}
		}
		var errs []error
		for _, p := range []string{m.port, m.management} {
			if p != "" {
				errs = append(errs, b.ask(func() error { return ignoreNotFound(ports.Delete(ctx, b.neutron, p).Err) }))
			}
		}
		if m.group != "" {
			errs = append(errs, b.ask(func() error { return groups.Delete(ctx, b.neutron, m.group).Err }))
		}
		if m.volume != "" {
			errs = append(errs, b.ask(func() error { return volumes.Delete(ctx, b.cinder, m.volume, nil).Err }))
		}
		return errors.Join(errs...)
	})
}

func isNotFound(err error) bool { return trove.IsNotFound(osclient.Told(err)) }

func ignoreNotFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// imageID is the image of servers that need none.
func (s *service) imageID(ctx context.Context) (string, error) {
	b, err := newSession(ctx, s.options)
	if err != nil {
		return "", err
	}
	glance, err := b.Image()
	if err != nil {
		return "", err
	}
	return imageOf(ctx, glance)
}

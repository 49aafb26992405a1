package taskmanager_test

import (
	"context"
	"runtime"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// nothing makes a call without a result one with.
func nothing(err error) (struct{}, error) { return struct{}{}, err }

type mortalStore struct {
	*sqlstore.Store
	m *manager
}

func (s *mortalStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	var own error
	_, err := outside(ctx, s.m, "store.InTx", func() (struct{}, error) {
		own = s.Store.InTx(ctx, fn)
		return nothing(own)
	})
	return err
}

func (s *mortalStore) DueOperations(ctx context.Context, now time.Time, limit int) ([]store.OperationRow, error) {
	if s.m.isDead() {
		runtime.Goexit()
	}
	return s.Store.DueOperations(ctx, now, limit)
}

type mortalCloud struct {
	*fake.Cloud
	m *manager
}

func (c *mortalCloud) EnsureMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	return outside(ctx, c.m, "EnsureMachine", func() (cloud.Machine, error) { return c.Cloud.EnsureMachine(ctx, s) })
}

func (c *mortalCloud) ResizeMachine(ctx context.Context, id string, f trove.Flavor) (cloud.Machine, error) {
	return outside(ctx, c.m, "ResizeMachine", func() (cloud.Machine, error) { return c.Cloud.ResizeMachine(ctx, id, f) })
}

func (c *mortalCloud) FindMachine(ctx context.Context, id string) (cloud.Machine, error) {
	return outside(ctx, c.m, "FindMachine", func() (cloud.Machine, error) { return c.Cloud.FindMachine(ctx, id) })
}

func (c *mortalCloud) StopMachine(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "StopMachine", func() (struct{}, error) { return nothing(c.Cloud.StopMachine(ctx, id)) })
	return err
}

func (c *mortalCloud) RebootMachine(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RebootMachine", func() (struct{}, error) { return nothing(c.Cloud.RebootMachine(ctx, id)) })
	return err
}

func (c *mortalCloud) MachineHost(ctx context.Context, id string) (string, error) {
	return outside(ctx, c.m, "MachineHost", func() (string, error) { return c.Cloud.MachineHost(ctx, id) })
}

func (c *mortalCloud) MigrateMachine(ctx context.Context, id, from, to string) (cloud.Machine, error) {
	return outside(ctx, c.m, "MigrateMachine", func() (cloud.Machine, error) { return c.Cloud.MigrateMachine(ctx, id, from, to) })
}

func (c *mortalCloud) RemoveGroup(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveGroup", func() (struct{}, error) { return nothing(c.Cloud.RemoveGroup(ctx, id)) })
	return err
}

func (c *mortalCloud) RemoveMachine(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveMachine", func() (struct{}, error) { return nothing(c.Cloud.RemoveMachine(ctx, id)) })
	return err
}

func (c *mortalCloud) EnsureVolume(ctx context.Context, s cloud.VolumeSpec) (cloud.Volume, error) {
	return outside(ctx, c.m, "EnsureVolume", func() (cloud.Volume, error) { return c.Cloud.EnsureVolume(ctx, s) })
}

func (c *mortalCloud) FindVolume(ctx context.Context, id string) (cloud.Volume, error) {
	return outside(ctx, c.m, "FindVolume", func() (cloud.Volume, error) { return c.Cloud.FindVolume(ctx, id) })
}

func (c *mortalCloud) RemoveVolume(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveVolume", func() (struct{}, error) { return nothing(c.Cloud.RemoveVolume(ctx, id)) })
	return err
}

func (c *mortalCloud) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	return outside(ctx, c.m, "EnsureNetwork", func() (cloud.Network, error) { return c.Cloud.EnsureNetwork(ctx, s) })
}

func (c *mortalCloud) RemoveNetwork(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveNetwork", func() (struct{}, error) { return nothing(c.Cloud.RemoveNetwork(ctx, id)) })
	return err
}

func (c *mortalCloud) EnsureName(ctx context.Context, id string, a []trove.Address) (string, error) {
	return outside(ctx, c.m, "EnsureName", func() (string, error) { return c.Cloud.EnsureName(ctx, id, a) })
}

func (c *mortalCloud) RemoveName(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveName", func() (struct{}, error) { return nothing(c.Cloud.RemoveName(ctx, id)) })
	return err
}

// inPlaceCloud gives machines another image in place.
type inPlaceCloud struct{ *mortalCloud }

func (c *inPlaceCloud) RebuildMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	return outside(ctx, c.m, "RebuildMachine", func() (cloud.Machine, error) {
		if err := c.Cloud.RemoveMachine(ctx, s.Instance); err != nil {
			return cloud.Machine{}, err
		}
		return c.Cloud.EnsureMachine(ctx, s)
	})
}

func (c *inPlaceCloud) DropPrevious(context.Context, string) (bool, error) { return true, nil }

type mortalGuests struct {
	*guestapi.Client
	m *manager
}

func (g *mortalGuests) Start(ctx context.Context, instance, id string, c guestapi.Command, args any) (guestapi.OperationStatus, error) {
	return outside(ctx, g.m, "Start "+string(c), func() (guestapi.OperationStatus, error) { return g.Client.Start(ctx, instance, id, c, args) })
}

func (g *mortalGuests) Status(ctx context.Context, instance, id string) (guestapi.OperationStatus, error) {
	return outside(ctx, g.m, "Status", func() (guestapi.OperationStatus, error) { return g.Client.Status(ctx, instance, id) })
}

func (g *mortalGuests) Withdraw(ctx context.Context, instance, id string) (bool, error) {
	return outside(ctx, g.m, "Withdraw", func() (bool, error) { return g.Client.Withdraw(ctx, instance, id) })
}

func (g *mortalGuests) CheckUpgrade(ctx context.Context, instance, version string) (guestapi.UpgradeCheck, error) {
	return outside(ctx, g.m, "CheckUpgrade", func() (guestapi.UpgradeCheck, error) { return g.Client.CheckUpgrade(ctx, instance, version) })
}

func (g *mortalGuests) Ping(ctx context.Context, instance string) (guestapi.Hello, error) {
	return outside(ctx, g.m, "Ping", func() (guestapi.Hello, error) { return g.Client.Ping(ctx, instance) })
}

func (g *mortalGuests) RequestCertificate(ctx context.Context, instance string) (guestapi.CertificateRequest, error) {
	return outside(ctx, g.m, "RequestCertificate", func() (guestapi.CertificateRequest, error) { return g.Client.RequestCertificate(ctx, instance) })
}

// mortalAgents has one release.
type mortalAgents struct{ m *manager }

func (a *mortalAgents) Get(version string) (agentrelease.Manifest, agentrelease.Signed, error) {
	if version != "" && version != newAgent {
		return agentrelease.Manifest{}, agentrelease.Signed{}, trove.Errorf(trove.KindNotFound, "There is no release %s.", version)
	}
	return agentrelease.Manifest{Version: newAgent}, agentrelease.Signed{}, nil
}

func (a *mortalAgents) Grant(ctx context.Context, instance, _ string, m agentrelease.Manifest) (guestapi.Grant, error) {
	return outside(ctx, a.m, "Grant", func() (guestapi.Grant, error) {
		return guestapi.Grant{Token: instance, Prefix: guestapi.AgentPrefix(m.Version)}, nil
	})
}

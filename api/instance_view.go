package api

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// versionCache keeps the datastore versions, which are few and change seldom: every instance that is shown names one.
type versionCache struct {
	mu     sync.Mutex
	loaded time.Time
	byID   map[string]trove.DatastoreVersion
}

// versionsFresh is how long names of datastore versions are shown without looking again.
const versionsFresh = 2 * time.Second

// datastoreVersion returns a version, false if there is none of that id.
func (s *server) datastoreVersion(ctx context.Context, id string) (trove.DatastoreVersion, bool, error) {
	now := s.cfg.Clock.Now()
	c := &s.versions
	c.mu.Lock()
	v, ok := c.byID[id]
	fresh := !c.loaded.IsZero() && now.Sub(c.loaded) < versionsFresh
	c.mu.Unlock()
	if ok && fresh {
		return v, true, nil
	}
	all, err := s.cfg.Store.DatastoreVersions(ctx, "")
	if err != nil {
		return v, false, fmt.Errorf("read the datastore versions: %w", err)
	}
	byID := make(map[string]trove.DatastoreVersion, len(all))
	for _, v := range all {
		byID[v.ID] = v
	}
	c.mu.Lock()
	c.byID, c.loaded = byID, now
	c.mu.Unlock()
	v, ok = byID[id]
	return v, ok, nil
}

// view is how much of an instance is shown.
type view struct {
	detail bool
	usage  bool // the volume's usage: of a single instance
}

// viewInstance makes the wire form of an instance. It asks neither the guest nor the cloud: usage is that of the last heartbeat.
func (s *server) viewInstance(ctx context.Context, c *call, i *trove.Instance, replicas []string, v view) (wire.Instance, error) {
	version, known, err := s.datastoreVersion(ctx, i.DatastoreVersionID)
	if err != nil {
		return wire.Instance{}, err
	}
	out := wire.Instance{
		ID: i.ID, Name: i.Name, Status: i.Status(i.BackingUp), OperatingStatus: i.OperatingStatus(s.cfg.Clock.Now()),
		Links:  c.links("instances", i.ID),
		Flavor: wire.FlavorRef{ID: i.FlavorID, Links: c.links("flavors", i.FlavorID)},
		Region: i.Region, Hostname: i.Hostname, Access: viewAccess(i),
	}
	if known {
		out.Datastore = wire.DatastoreRef{Type: &version.DatastoreName, Version: &version.Name}
	}
	if c.admin {
		out.TenantID = i.ProjectID
	}
	if i.VolumeSize > 0 {
		out.Volume = &wire.Volume{Size: i.VolumeSize}
	}
	if i.Hostname == "" {
		for _, a := range i.Addresses {
			out.IP = append(out.IP, a.Address)
			out.Addresses = append(out.Addresses, wire.Address(a))
		}
	}
	if i.ReplicaOf != "" {
		out.ReplicaOf = &wire.InstanceRef{ID: i.ReplicaOf, Links: c.links("instances", i.ReplicaOf)}
	}
	for _, id := range replicas {
		out.Replicas = append(out.Replicas, wire.InstanceRef{ID: id, Links: c.links("instances", id)})
	}
	if v.detail {
		addDetail(&out, c, i, &version, known)
		if err := s.addGroup(ctx, &out); err != nil {
			return out, err
		}
	}
	if v.usage {
		out.StorageAlarm = string(i.Storage.Alarm)
	}
	if v.usage && out.Volume != nil {
		addUsage(out.Volume, i, out.Status)
	}
	return out, nil
}

func viewAccess(i *trove.Instance) wire.Access {
	if !i.Access.IsPublic && len(i.Access.AllowedCIDRs) == 0 && len(i.Addresses) == 0 {
		return wire.Access{}
	}
	return wire.Access{IsPublic: &i.Access.IsPublic, AllowedCIDRs: i.Access.AllowedCIDRs}
}

func addDetail(out *wire.Instance, c *call, i *trove.Instance, version *trove.DatastoreVersion, known bool) {
	seen := i.Guest.SeenAt
	if seen.IsZero() {
		seen = i.Created
	}
	created, updated, service := wire.Time(i.Created), wire.Time(i.Updated), wire.Time(seen)
	out.Created, out.Updated, out.ServiceUpdated = &created, &updated, &service
	out.Locality, out.ClusterID, out.ShardID = i.Locality, i.ClusterID, i.ShardID
	if known {
		out.Datastore.VersionNumber = &version.Version
	}
	if i.ConfigurationID != "" {
		out.Configuration = &wire.Configuration{ID: i.ConfigurationID, Links: c.links("configurations", i.ConfigurationID)}
	}
	if i.Fault != nil {
		out.Fault = &wire.InstanceFault{Message: i.Fault.Message, Created: wire.Time(i.Fault.Created)}
		if c.admin {
			out.Fault.Details = &i.Fault.Details
		}
	}
	if c.admin {
		server, volume, encrypted := wire.Nullable(i.ComputeID), wire.Nullable(i.VolumeID), true
		out.ServerID, out.VolumeID, out.EncryptedRPC = &server, &volume, &encrypted
	}
}

// unmeasured are the statuses in which Trove shows no usage.
var unmeasured = []string{"BUILD", "REBOOT", "RESIZE", "PROMOTE", "EJECT", "UPGRADE"}

func addUsage(out *wire.Volume, i *trove.Instance, status string) {
	if i.Guest.VolumeTotal <= 0 || slices.Contains(unmeasured, status) {
		return
	}
	used := math.Round(float64(i.Guest.VolumeUsed)/(1<<30)*1000) / 1000
	percent := math.Round(float64(i.Guest.VolumeUsed)/float64(i.Guest.VolumeTotal)*1000) / 10
	out.Used, out.UsedPercent = &used, &percent
}

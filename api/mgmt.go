package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func mgmtOperations() []Operation {
	const path, one = "/mgmt/instances", "/mgmt/instances/{instance}"
	return []Operation{
		{
			ID: "listMgmtInstances", Method: http.MethodGet, Path: path, Admin: true,
			Summary: "List the instances of all projects, the last changed first. The marker is the number of instances to skip.",
			Query: []Query{
				{"deleted", "boolean", "true: only deleted ones; false: only living ones"},
				{"include_clustered", "boolean", "members of clusters too; there are none"},
				{"project_id", "string", "only those of this project"},
				{"limit", "integer", "the most items to list"},
				{"marker", "integer", "how many to skip"},
			},
			Success: http.StatusOK, Response: wire.MgmtInstanceList{}, handle: (*server).listMgmtInstances,
		},
		{
			ID: "showMgmtInstance", Method: http.MethodGet, Path: path + "/{id}", Admin: true, Summary: "Show an instance with what the cloud and the guest say.",
			Query:   []Query{{"deleted", "boolean", "true: one that was deleted"}},
			Success: http.StatusOK, Response: wire.MgmtInstanceBody{}, handle: (*server).showMgmtInstance,
		},
		{
			ID: "manageInstance", Method: http.MethodPost, Path: one + "/action", Admin: true, Schema: "mgmt-instance-action.json",
			Summary: "Stop the database, reboot, rebuild or migrate the machine, clear the task, or (not in Trove) put a release of the guest agent in place.",
			Success: http.StatusAccepted, handle: (*server).manageInstance,
		},
		{
			ID: "upgradeInstance", Method: http.MethodPost, Path: one + "/upgrade", Admin: true, Schema: "mgmt-instance-upgrade.json",
			Summary: "Put a release of the guest agent in place: the action upgrade_agent by Trove's name for it.",
			Success: http.StatusAccepted, handle: (*server).upgradeByTroveName,
		},
		{
			ID: "showRootHistory", Method: http.MethodGet, Path: one + "/root", Admin: true, Summary: "Say when the superuser was enabled last, and by whom.",
			Success: http.StatusOK, Response: wire.RootHistoryBody{}, handle: (*server).showRootHistory,
		},
		{
			ID: "pingGuest", Method: http.MethodGet, Path: one + "/rpc_ping", Admin: true, Summary: "Ask the guest agent for an answer.",
			Success: http.StatusNoContent, handle: (*server).pingGuest,
		},
		{
			ID: "showHardware", Method: http.MethodGet, Path: one + "/hwinfo", Admin: true, Summary: "Ask the guest how much memory and how many cores it has.",
			Success: http.StatusOK, Response: wire.HardwareBody{}, handle: (*server).showHardware,
		},
		{
			ID: "showDiagnostics", Method: http.MethodGet, Path: one + "/diagnostics", Admin: true, Summary: "Ask the guest agent for the figures of its process.",
			Success: http.StatusOK, Response: wire.DiagnosticsBody{}, handle: (*server).showDiagnostics,
		},
	}
}

// errNotAdmin is the 401 with which Trove refuses management to others: python-troveclient gets a new token and asks once more.
var errNotAdmin = trove.Errorf(trove.KindUnauthorized, "User does not have admin privileges.")

// truth reads a flag of a query as Trove does, nil if it is absent.
func truth(c *call, name string) (*bool, error) {
	text := c.req.URL.Query().Get(name)
	if text == "" {
		return nil, nil //nolint:nilnil // no flag, no error
	}
	b, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return nil, bad("%s must be true or false.", name)
	}
	return &b, nil
}

func (s *server) listMgmtInstances(ctx context.Context, c *call) (any, error) {
	deleted, err := truth(c, "deleted")
	if err != nil {
		return nil, err
	}
	if _, err := truth(c, "include_clustered"); err != nil {
		return nil, err
	}
	limit, offset, err := s.readOffset(c)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		return nil, bad("The limit 0 is no page of instances.")
	}
	found, err := s.cfg.Store.ManagedInstances(ctx, store.ManagedFilter{
		ProjectID: c.req.URL.Query().Get("project_id"), Deleted: deleted, Cluster: inAnyCluster(c), Offset: offset, Limit: limit + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("list the instances: %w", err)
	}
	out := wire.MgmtInstanceList{Instances: []wire.MgmtInstance{}}
	if len(found) > limit {
		found = found[:limit]
		out.Links = c.nextLink(strconv.Itoa(offset + limit))
	}
	replicas, err := s.replicasOf(ctx, found)
	if err != nil {
		return nil, err
	}
	hosts := s.hostsOf(ctx, found...)
	for n := range found {
		i := &found[n]
		v, err := s.viewMgmtInstance(ctx, c, i, replicas[i.ID], hosts[i.ID])
		if err != nil {
			return nil, err
		}
		if i.VolumeSize > 0 {
			v.Volume = v.Instance.Volume
		}
		out.Instances = append(out.Instances, v)
	}
	return &out, nil
}

func (s *server) showMgmtInstance(ctx context.Context, c *call) (any, error) {
	deleted, err := truth(c, "deleted")
	if err != nil {
		return nil, err
	}
	read := s.cfg.Store.Instance
	if deleted != nil && *deleted {
		read = s.cfg.Store.DeletedInstance
	}
	i, err := read(ctx, c.params.get("id"))
	if err != nil {
		return nil, err
	}
	replicas, err := s.replicasOf(ctx, []trove.Instance{i})
	if err != nil {
		return nil, err
	}
	out, err := s.viewMgmtInstance(ctx, c, &i, replicas[i.ID], s.hostsOf(ctx, i)[i.ID])
	if err != nil {
		return nil, err
	}
	if i.VolumeSize > 0 {
		out.Volume = viewMgmtVolume(&i, out.Status)
	}
	if out.Server != nil {
		out.Server.Addresses = &struct{}{}
	}
	out.GuestStatus = &wire.GuestStatus{StateDescription: strings.ToLower(out.ServiceStatus)}
	h, err := s.cfg.Store.RootHistory(ctx, i.ID)
	if err != nil && !trove.IsNotFound(err) {
		return nil, fmt.Errorf("read the root history: %w", err)
	}
	if err == nil {
		at := wire.Time(h.Enabled)
		out.RootEnabled, out.RootEnabledBy = &at, h.UserID
	}
	return &wire.MgmtInstanceBody{Instance: out}, nil
}

// viewMgmtInstance makes what lists and single instances have in common.
func (s *server) viewMgmtInstance(ctx context.Context, c *call, i *trove.Instance, replicas []string, host string) (wire.MgmtInstance, error) {
	detail, err := s.viewInstance(ctx, c, i, replicas, view{detail: true})
	if err != nil {
		return wire.MgmtInstance{}, err
	}
	out := wire.MgmtInstance{
		Instance: detail, ServiceStatus: i.Guest.Service.APIStatus(), Deleted: !i.DeletedAt.IsZero(), TaskDescription: i.Task.Description(),
	}
	if out.Deleted {
		at := wire.Time(i.DeletedAt)
		out.DeletedAt, out.ServiceStatus = &at, trove.ServiceDeleted.APIStatus()
		return out, nil
	}
	if i.ComputeID == "" {
		return out, nil
	}
	out.Server = &wire.MgmtServer{ID: i.ComputeID, Name: i.ID, Status: string(i.ServerStatus), TenantID: i.ProjectID}
	out.Server.Host = wire.Nullable(host)
	return out, nil
}

func viewMgmtVolume(i *trove.Instance, status string) *wire.MgmtVolume {
	v := wire.MgmtVolume{
		Attachments: []wire.VolumeAttachment{}, AvailabilityZone: wire.Nullable(i.AvailabilityZone), CreatedAt: wire.PreciseTime(i.Created),
		ID: i.VolumeID, Size: i.VolumeSize, Status: "available",
	}
	if i.ComputeID != "" && i.DeletedAt.IsZero() {
		v.Attachments, v.Status = append(v.Attachments, wire.VolumeAttachment{ServerID: i.ComputeID}), "in-use"
	}
	var usage wire.Volume
	addUsage(&usage, i, status)
	if usage.Used != nil {
		total := math.Round(float64(i.Guest.VolumeTotal)/(1<<30)*1000) / 1000
		v.Used, v.Total = usage.Used, &total
	}
	return &v
}

func (s *server) showRootHistory(ctx context.Context, c *call) (any, error) {
	out := wire.RootHistory{ID: c.instance.ID, Enabled: "Never", User: "Nobody"}
	h, err := s.cfg.Store.RootHistory(ctx, c.instance.ID)
	if err != nil && !trove.IsNotFound(err) {
		return nil, fmt.Errorf("read the root history: %w", err)
	}
	if err == nil {
		out.Enabled, out.User = h.Enabled.UTC().Format(wire.Layout), h.UserID
	}
	return &wire.RootHistoryBody{RootHistory: out}, nil
}

func (s *server) pingGuest(ctx context.Context, c *call) (any, error) {
	_, err := s.cfg.Guests.Ping(ctx, c.instance.ID)
	return nil, err
}

func (s *server) showHardware(ctx context.Context, c *call) (any, error) {
	m, err := s.cfg.Guests.Machine(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	return &wire.HardwareBody{HWInfo: wire.Hardware{MemTotal: m.MemoryKiB, NumCPUs: m.CPUs}}, nil
}

func (s *server) showDiagnostics(ctx context.Context, c *call) (any, error) {
	m, err := s.cfg.Guests.Machine(ctx, c.instance.ID)
	if err != nil {
		return nil, err
	}
	p := m.Agent
	return &wire.DiagnosticsBody{Diagnostics: wire.Diagnostics{
		Version: m.AgentVersion, Threads: p.Threads, FDSize: p.FDSize, VMSize: p.VMSize, VMPeak: p.VMPeak, VMRSS: p.VMRSS, VMHWM: p.VMHWM,
	}}, nil
}

package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

const (
	instanceColumns = `i.id, i.project_id, i.name, i.created, i.updated, i.deleted_at, i.task, i.server_status, i.datastore_version_id, i.flavor_id,
i.volume_size, i.volume_type, i.region, i.availability_zone, i.locality, i.hostname, i.configuration_id, i.replica_of, i.access, i.nics, i.addresses,
i.fault, i.compute_id, i.volume_id, i.server_id, i.held, i.version, i.cluster_id, i.shard_id, i.member_type, i.backing_up, i.storage, ` + guestColumns
	guestColumns = `COALESCE(g.service, ''), COALESCE(g.seen_at, 0), COALESCE(g.boot_id, ''), COALESCE(g.agent_version, ''), COALESCE(g.volume_used, 0), COALESCE(g.volume_total, 0),
COALESCE(g.agent_start, 0), COALESCE(g.event_at, 0)`
	instanceTables = ` FROM instance i LEFT JOIN guest_state g ON g.instance_id = i.id `
)

// instanceRow is where a row of instanceColumns is scanned to; one serves a whole page.
type instanceRow struct {
	i                                    trove.Instance
	created, updated, deleted, seen      int64
	access, nics, addresses, fault, held sql.RawBytes
	storage                              sql.RawBytes
	dest                                 [40]any
}

func newInstanceRow() *instanceRow {
	r := &instanceRow{}
	i := &r.i
	r.dest = [40]any{
		&i.ID, &i.ProjectID, &i.Name, &r.created, &r.updated, &r.deleted, &i.Task, (*string)(&i.ServerStatus), &i.DatastoreVersionID, &i.FlavorID,
		&i.VolumeSize, &i.VolumeType, &i.Region, &i.AvailabilityZone, &i.Locality, &i.Hostname, &i.ConfigurationID, &i.ReplicaOf, &r.access, &r.nics, &r.addresses,
		&r.fault, &i.ComputeID, &i.VolumeID, &i.ServerID, &r.held, &i.Version,
		&i.ClusterID, &i.ShardID, &i.MemberType, &i.BackingUp, &r.storage,
		(*string)(&i.Guest.Service), &r.seen, &i.Guest.BootID, &i.Guest.AgentVersion, &i.Guest.VolumeUsed, &i.Guest.VolumeTotal,
		&i.Guest.AgentStart, &i.Guest.EventAt,
	}
	return r
}

func (r *instanceRow) scan(rows *sql.Rows) (trove.Instance, error) {
	r.i = trove.Instance{}
	if err := rows.Scan(r.dest[:]...); err != nil {
		return trove.Instance{}, err
	}
	r.i.Created, r.i.Updated, r.i.DeletedAt = fromMicros(r.created), fromMicros(r.updated), fromMicros(r.deleted)
	r.i.Guest.SeenAt = fromMicros(r.seen)
	for _, f := range []struct {
		text sql.RawBytes
		v    any
	}{{r.access, &r.i.Access}, {r.nics, &r.i.NICs}, {r.addresses, &r.i.Addresses}, {r.fault, &r.i.Fault}, {r.held, &r.i.Held}, {r.storage, &r.i.Storage}} {
		if len(f.text) == 0 {
			continue
		}
		if err := json.Unmarshal(f.text, f.v); err != nil {
			return trove.Instance{}, fmt.Errorf("read a column of instance %s: %w", r.i.ID, err)
		}
	}
	return r.i, nil
}

// encoded returns JSON, or "" for what is empty.
func encoded(v any, empty bool) (string, error) {
	if empty {
		return "", nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode a column: %w", err)
	}
	return string(b), nil
}

func notFound(id string) error {
	return trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
}

func (r reader) Instance(ctx context.Context, id string) (trove.Instance, error) {
	found, err := r.instances(ctx, `WHERE i.id = ? AND i.deleted = 0`, 1, id)
	if err != nil {
		return trove.Instance{}, fmt.Errorf("read instance %s: %w", id, err)
	}
	if len(found) == 0 {
		return trove.Instance{}, notFound(id)
	}
	return found[0], nil
}

func (r reader) Instances(ctx context.Context, f store.InstanceFilter) ([]trove.Instance, error) {
	deleted := 0
	if f.Deleted != nil {
		deleted = flag(*f.Deleted)
	}
	var q strings.Builder
	q.WriteString(`WHERE i.deleted = ? AND i.id > ?`)
	args := []any{deleted, f.Marker}
	if f.ProjectID != "" {
		q.WriteString(` AND i.project_id = ?`)
		args = append(args, f.ProjectID)
	}
	if f.Cluster != nil {
		q.WriteString(` AND i.cluster_id = ?`)
		args = append(args, *f.Cluster)
	}
	if f.Name != "" {
		q.WriteString(` AND i.name = ?`)
		args = append(args, f.Name)
	}
	if !f.SilentSince.IsZero() {
		q.WriteString(` AND g.seen_at < ?`)
		args = append(args, micros(f.SilentSince))
	}
	q.WriteString(` ORDER BY i.id`)
	if f.Limit > 0 {
		q.WriteString(` LIMIT ?`)
		args = append(args, f.Limit)
	}
	found, err := r.instances(ctx, q.String(), f.Limit, args...)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	return found, nil
}

// instances reads a page of at most size rows, 0 for all.
func (r reader) instances(ctx context.Context, where string, size int, args ...any) ([]trove.Instance, error) {
	cached := r.cache != nil && size > 0 && size <= cachedInstances/8
	if cached {
		if found, err := r.cachedPage(ctx, where, size, args...); found != nil || err != nil {
			return found, err
		}
	}
	found := make([]trove.Instance, 0, min(size, 1000))
	row := newInstanceRow()
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		i, err := row.scan(rows)
		found = append(found, i)
		return err
	}, `SELECT `+instanceColumns+instanceTables+where, args...)
	if err == nil && cached {
		r.cache.put(found)
	}
	return found, err
}

// replicaChunks are the sizes of the IN lists, so that few statements are prepared; the rest of a list repeats its last id.
var replicaChunks = [...]int{1, 8, 32, 128, 512}

func (r reader) Replicas(ctx context.Context, primaries ...string) (map[string][]string, error) {
	found := map[string][]string{}
	for len(primaries) > 0 {
		size := replicaChunks[len(replicaChunks)-1]
		for _, s := range replicaChunks {
			if len(primaries) <= s {
				size = s
				break
			}
		}
		n := min(size, len(primaries))
		args := make([]any, size)
		for i := range args {
			args[i] = primaries[min(i, n-1)]
		}
		primaries = primaries[n:]
		// The plus keeps SQLite from the index that begins with deleted, which would read every living instance.
		err := list(ctx, r.run, func(rows *sql.Rows) error {
			var primary, id string
			if err := rows.Scan(&primary, &id); err != nil {
				return err
			}
			found[primary] = append(found[primary], id)
			return nil
		}, `SELECT replica_of, id FROM instance WHERE +deleted = 0 AND replica_of IN (?`+strings.Repeat(`,?`, size-1)+`) ORDER BY replica_of, id`, args...)
		if err != nil {
			return nil, fmt.Errorf("list replicas: %w", err)
		}
	}
	return found, nil
}

func (t *tx) InsertInstance(ctx context.Context, i trove.Instance) error {
	if i.ServerID == 0 {
		n, err := t.freeServerID(ctx)
		if err != nil {
			return fmt.Errorf("insert instance %s: %w", i.ID, err)
		}
		i.ServerID = n
	}
	args, err := instanceArgs(i)
	if err != nil {
		return fmt.Errorf("insert instance %s: %w", i.ID, err)
	}
	args = append(args, i.Version+1, i.ID, i.ProjectID)
	_, err = t.run.exec(ctx, `INSERT INTO instance (name, created, updated, task, server_status, datastore_version_id, flavor_id, volume_size, volume_type,
region, availability_zone, locality, hostname, configuration_id, replica_of, access, nics, addresses, fault, compute_id, volume_id, server_id, held,
cluster_id, shard_id, member_type, storage, version, id, project_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`, args...)
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO guest_state (instance_id, service) VALUES (?, ?)`, i.ID, string(trove.ServiceNew))
	}
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO guest (instance_id) VALUES (?)`, i.ID)
	}
	if err != nil {
		return fmt.Errorf("insert instance %s: %w", i.ID, err)
	}
	return nil
}

// freeServerID returns a number that no instance has. It is random, so that an engine outside that replicates from one of ours hardly meets it.
func (t *tx) freeServerID(ctx context.Context) (uint32, error) {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		n := binary.BigEndian.Uint32(b[:]) &^ (1 << 31) // some tools read it as a signed number
		if n == 0 {
			continue
		}
		var one int
		err := t.run.row(ctx, []any{&one}, `SELECT 1 FROM instance WHERE server_id = ?`, n)
		if errors.Is(err, sql.ErrNoRows) {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look for a free server id: %w", err)
		}
	}
}

// instanceArgs returns the values of the columns from name to storage.
func instanceArgs(i trove.Instance) ([]any, error) {
	access, err1 := encoded(i.Access, !i.Access.IsPublic && len(i.Access.AllowedCIDRs) == 0)
	nics, err2 := encoded(i.NICs, len(i.NICs) == 0)
	addresses, err3 := encoded(i.Addresses, len(i.Addresses) == 0)
	fault, err4 := encoded(i.Fault, i.Fault == nil)
	held, err5 := encoded(i.Held, len(i.Held) == 0)
	storage, err6 := encoded(i.Storage, i.Storage.Empty())
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	return []any{
		i.Name, micros(i.Created), micros(i.Updated), int(i.Task), string(i.ServerStatus), i.DatastoreVersionID, i.FlavorID, i.VolumeSize, i.VolumeType,
		i.Region, i.AvailabilityZone, i.Locality, i.Hostname, i.ConfigurationID, i.ReplicaOf, access, nics, addresses, fault, i.ComputeID, i.VolumeID,
		i.ServerID, held, i.ClusterID, i.ShardID, i.MemberType, storage,
	}, nil
}

func (t *tx) UpdateInstance(ctx context.Context, id string, now time.Time, change func(*trove.Instance) error) error {
	i, err := t.Instance(ctx, id)
	if err != nil {
		return err
	}
	version := i.Version
	if err := change(&i); err != nil {
		return err
	}
	i.Updated = now
	args, err := instanceArgs(i)
	if err != nil {
		return fmt.Errorf("update instance %s: %w", id, err)
	}
	err = swap(ctx, t.run, `UPDATE instance SET name=?, created=?, updated=?, task=?, server_status=?, datastore_version_id=?, flavor_id=?, volume_size=?,
volume_type=?, region=?, availability_zone=?, locality=?, hostname=?, configuration_id=?, replica_of=?, access=?, nics=?, addresses=?, fault=?, compute_id=?,
volume_id=?, server_id=?, held=?, cluster_id=?, shard_id=?, member_type=?, storage=?, version=version+1 WHERE id=? AND version=?`, append(args, id, version)...)
	if err != nil {
		return fmt.Errorf("update instance %s: %w", id, err)
	}
	return nil
}

func (t *tx) DeleteInstance(ctx context.Context, id string, now time.Time) error {
	_, err := t.run.exec(ctx, `UPDATE instance SET deleted=1, deleted_at=?, updated=?, version=version+1 WHERE id=? AND deleted=0`, micros(now), micros(now), id)
	for _, table := range []string{
		"guest_state", "guest", "report", "instance_module", "instance_configuration", "instance_certificate", "scrape_token", "kept_data",
	} {
		if err == nil {
			_, err = t.run.exec(ctx, `DELETE FROM `+table+` WHERE instance_id=?`, id)
		}
	}
	if err != nil {
		return fmt.Errorf("delete instance %s: %w", id, err)
	}
	return nil
}

func (r reader) RootHistory(ctx context.Context, instance string) (trove.RootHistory, error) {
	h := trove.RootHistory{InstanceID: instance}
	var enabled, disabled int64
	err := r.run.row(ctx, []any{&h.UserID, &enabled, &disabled}, `SELECT user_id, enabled, disabled FROM root_history WHERE instance_id=?`, instance)
	if errors.Is(err, sql.ErrNoRows) {
		return h, notFound(instance)
	}
	if err != nil {
		return h, fmt.Errorf("read the root history of %s: %w", instance, err)
	}
	h.Enabled, h.Disabled = fromMicros(enabled), fromMicros(disabled)
	return h, nil
}

func (t *tx) SetRootHistory(ctx context.Context, h trove.RootHistory) error {
	err := put(ctx, t.run, `UPDATE root_history SET user_id=?, enabled=?, disabled=? WHERE instance_id=?`,
		`INSERT INTO root_history (user_id, enabled, disabled, instance_id) VALUES (?,?,?,?)`, h.UserID, micros(h.Enabled), micros(h.Disabled), h.InstanceID)
	if err != nil {
		return fmt.Errorf("write the root history of %s: %w", h.InstanceID, err)
	}
	return nil
}

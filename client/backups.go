package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/trove-dbaas/trove/api/wire"
)

// BackupFilter chooses backups; the zero value is all of the project's.
type BackupFilter struct {
	Datastore   string // id or name
	Instance    string // id
	AllProjects bool   // needs the right to it, as ProjectID
	ProjectID   string
	Limit       int // the most to return; 0: all
	Marker      int // how many to leave out
}

func (f BackupFilter) query() url.Values {
	q := url.Values{}
	for key, value := range map[string]string{"datastore": f.Datastore, "instance_id": f.Instance, "project_id": f.ProjectID} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if f.AllProjects {
		q.Set("all_projects", "true")
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Marker > 0 {
		q.Set("marker", strconv.Itoa(f.Marker))
	}
	return q
}

// Backups returns backups, those that changed last first.
func (c *Client) Backups(ctx context.Context, f BackupFilter) ([]wire.Backup, error) {
	return c.backups(ctx, "/backups", f)
}

// InstanceBackups returns the backups of an instance; of the filter only the page counts.
func (c *Client) InstanceBackups(ctx context.Context, instance string, f BackupFilter) ([]wire.Backup, error) {
	return c.backups(ctx, instancePath(instance, "backups"), BackupFilter{Limit: f.Limit, Marker: f.Marker})
}

// backups reads one page where there is a limit, else all of them.
func (c *Client) backups(ctx context.Context, path string, f BackupFilter) ([]wire.Backup, error) {
	var all []wire.Backup
	q := f.query()
	err := pages(func(marker string) ([]wire.Link, error) {
		if marker != "" {
			q.Set("marker", marker)
		}
		var out wire.BackupList
		err := c.do(ctx, http.MethodGet, path+encodeQuery(q), nil, &out)
		all = append(all, out.Backups...)
		if f.Limit > 0 {
			return nil, err
		}
		return out.Links, err
	})
	return all, err
}

func encodeQuery(q url.Values) string {
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func backupPath(id string) string { return "/backups/" + url.PathEscape(id) }

// Backup returns the backup with the id.
func (c *Client) Backup(ctx context.Context, id string) (wire.Backup, error) {
	var out wire.BackupBody
	err := c.do(ctx, http.MethodGet, backupPath(id), nil, &out)
	return out.Backup, err
}

// FindBackup returns the backup with the id or the name. Two of the same name are an error that lists their ids.
func (c *Client) FindBackup(ctx context.Context, idOrName string) (wire.Backup, error) {
	b, err := c.Backup(ctx, idOrName)
	if err == nil || !IsNotFound(err) {
		return b, err
	}
	all, err := c.Backups(ctx, BackupFilter{})
	if err != nil {
		return b, err
	}
	names := make([]named, len(all))
	for n, b := range all {
		names[n] = named{b.ID, b.Name}
	}
	id, err := pick("backup", "backup", idOrName, names)
	if err != nil {
		return b, err
	}
	return c.Backup(ctx, id)
}

// CreateBackup asks for a backup and returns it as it is then.
func (c *Client) CreateBackup(ctx context.Context, spec wire.BackupCreate) (wire.Backup, error) {
	var out wire.BackupBody
	err := c.create(ctx, "/backups", wire.BackupCreateBody{Backup: spec}, &out)
	return out.Backup, err
}

// DeleteBackup removes a backup with those that build on it.
func (c *Client) DeleteBackup(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, backupPath(id), nil, nil)
}

func strategyQuery(instance, project string) string {
	q := url.Values{}
	if instance != "" {
		q.Set("instance_id", instance)
	}
	if project != "" {
		q.Set("project_id", project)
	}
	return "/backup_strategies" + encodeQuery(q)
}

// BackupStrategies returns the strategies of a project, "" for the own one; with an instance only that one's.
func (c *Client) BackupStrategies(ctx context.Context, instance, project string) ([]wire.BackupStrategy, error) {
	var out wire.BackupStrategyList
	err := c.do(ctx, http.MethodGet, strategyQuery(instance, project), nil, &out)
	return out.Strategies, err
}

// CreateBackupStrategy names the container of an instance's backups, or with "" of all the project's.
func (c *Client) CreateBackupStrategy(ctx context.Context, instance, container string) (wire.BackupStrategy, error) {
	body := wire.BackupStrategyCreateBody{Strategy: wire.BackupStrategyCreate{InstanceID: instance, Container: container}}
	var out wire.BackupStrategyBody
	err := c.create(ctx, "/backup_strategies", body, &out)
	return out.Strategy, err
}

// DeleteBackupStrategy removes the strategy of an instance, or with "" the project's default; project "" is the own one.
func (c *Client) DeleteBackupStrategy(ctx context.Context, instance, project string) error {
	return c.do(ctx, http.MethodDelete, strategyQuery(instance, project), nil, nil)
}

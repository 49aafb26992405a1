package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// What cannot be done yet, said after everything that could be wrong with the request.
const (
	noBackups  = "Backups cannot be made yet: this release lists and shows those that are there."
	noRegister = "Backups cannot be registered from an object yet: this release does not read objects in Swift."
	noRestore  = "Instances cannot be made from a backup yet: this release lists and shows backups."
)

// notYet is the refusal of what this release does not do.
func notYet(sentence string) error { return trove.Errorf(trove.KindNotImplemented, "%s", sentence) }

func backupOperations() []Operation {
	const one = "/backups/{backup}"
	return []Operation{
		{
			ID: "listBackups", Method: http.MethodGet, Path: "/backups", Summary: "List backups, those that changed last first.",
			Query: append([]Query{
				{"datastore", "string", "only those of this datastore, by id or name"},
				{"instance_id", "string", "only those of this instance"},
				{"all_projects", "boolean", "those of all projects (backup:index:all_projects)"},
				{"project_id", "string", "those of another project (backup:index:all_projects)"},
			}, offsetPaged...),
			Success: http.StatusOK, Response: wire.BackupList{}, handle: (*server).listBackups,
		},
		{
			ID: "createBackup", Method: http.MethodPost, Path: "/backups", Rule: "backup:create", Schema: "backup-create.json",
			Summary: "Back an instance up. Refused for now with 501, after everything else was checked.", Creates: true,
			Success: http.StatusAccepted, Response: wire.BackupBody{}, handle: (*server).createBackup,
		},
		{
			ID: "showBackup", Method: http.MethodGet, Path: one, Rule: "backup:show", Summary: "Show a backup.",
			Success: http.StatusOK, Response: wire.BackupBody{}, handle: (*server).showBackup,
		},
		{
			ID: "deleteBackup", Method: http.MethodDelete, Path: one, Rule: "backup:delete",
			Summary: "Delete a backup with those that build on it. Refused with 501 where an object would be left behind.",
			Success: http.StatusAccepted, handle: (*server).deleteBackup,
		},
		{
			ID: "listInstanceBackups", Method: http.MethodGet, Path: "/instances/{instance}/backups", Rule: "instance:backups",
			Summary: "List the backups of an instance.", Query: offsetPaged,
			Success: http.StatusOK, Response: wire.BackupList{}, handle: (*server).listInstanceBackups,
		},
	}
}

var offsetPaged = []Query{
	{"limit", "integer", "the most items to list"},
	{"marker", "integer", "how many items to leave out"},
}

// maxOffsetPage is the most items of a page that is not cut at the page size.
const maxOffsetPage = 1000

// readOffset reads limit and marker of a list whose marker is a number. A limit of 0 is an empty page, as in Trove.
func (s *server) readOffset(c *call) (limit, offset int, err error) {
	q := c.req.URL.Query()
	limit = s.cfg.PageSize
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 {
			return 0, 0, bad("The limit %q is not a whole number from 0 on.", text)
		}
	}
	if text := q.Get("marker"); text != "" {
		if offset, err = strconv.Atoi(text); err != nil || offset < 0 || offset > math.MaxInt32 {
			return 0, 0, bad("The marker %q is not a whole number from 0 on.", text)
		}
	}
	return min(limit, maxOffsetPage), offset, nil
}

func (s *server) viewBackup(ctx context.Context, b *trove.Backup) (wire.Backup, error) {
	out := wire.Backup{
		ID: b.ID, Name: b.Name, Description: wire.Nullable(b.Description), Location: wire.Nullable(b.Location), InstanceID: wire.Nullable(b.InstanceID),
		Created: wire.Time(b.Created), Updated: wire.Time(b.Updated), Status: string(b.State), ParentID: wire.Nullable(b.ParentID), ProjectID: b.ProjectID,
	}
	if b.Size != 0 {
		out.Size = &b.Size
	}
	version, known, err := s.datastoreVersion(ctx, b.DatastoreVersionID)
	if known {
		out.Datastore = wire.BackupDatastore{Type: wire.Nullable(version.DatastoreName), Version: wire.Nullable(version.Name), VersionID: version.ID}
	}
	return out, err
}

// truths are the texts that Trove's clients send for yes.
var truths = []string{"1", "t", "true", "on", "y", "yes"}

func isTrue(text string) bool {
	return slices.Contains(truths, strings.ToLower(strings.TrimSpace(text)))
}

func (s *server) listBackups(ctx context.Context, c *call) (any, error) {
	q := c.req.URL.Query()
	f := store.BackupFilter{ProjectID: c.project, InstanceID: q.Get("instance_id")}
	rule := "backup:index"
	if p := q.Get("project_id"); p != "" {
		f.ProjectID, rule = p, "backup:index:all_projects"
	}
	if isTrue(q.Get("all_projects")) {
		f.ProjectID, rule = "", "backup:index:all_projects"
	}
	if err := s.enforce(c, rule, c.project); err != nil {
		return nil, err
	}
	if name := q.Get("datastore"); name != "" {
		ds, err := s.findDatastore(ctx, name)
		if err != nil {
			return nil, err
		}
		f.DatastoreID = ds.ID
	}
	return s.backupPage(ctx, c, f)
}

func (s *server) listInstanceBackups(ctx context.Context, c *call) (any, error) {
	return s.backupPage(ctx, c, store.BackupFilter{InstanceID: c.instance.ID, ProjectID: c.instance.ProjectID})
}

// backupPage lists a page. It names a next one whenever it is full, as Trove does.
func (s *server) backupPage(ctx context.Context, c *call, f store.BackupFilter) (any, error) {
	limit, offset, err := s.readOffset(c)
	if err != nil {
		return nil, err
	}
	out := wire.BackupList{Backups: []wire.Backup{}}
	if limit > 0 {
		f.Limit, f.Offset = limit, offset
		found, err := s.cfg.Store.Backups(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("list the backups: %w", err)
		}
		for n := range found {
			v, err := s.viewBackup(ctx, &found[n])
			if err != nil {
				return nil, err
			}
			out.Backups = append(out.Backups, v)
		}
	}
	if len(out.Backups) == limit {
		out.Links = c.nextLink(strconv.Itoa(offset + limit))
	}
	return &out, nil
}

// findBackup finds a backup. Somebody else's is not there, except for administrators.
func (s *server) findBackup(ctx context.Context, c *call, id string) (trove.Backup, error) {
	b, err := s.cfg.Store.Backup(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return b, fmt.Errorf("read the backup: %w", err)
	}
	if err != nil || b.ProjectID != c.project && !c.admin {
		return b, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	return b, nil
}

func (s *server) showBackup(ctx context.Context, c *call) (any, error) {
	b, err := s.findBackup(ctx, c, c.params.get("backup"))
	if err != nil {
		return nil, err
	}
	if err := s.enforce(c, "backup:show", b.ProjectID); err != nil {
		return nil, err
	}
	v, err := s.viewBackup(ctx, &b)
	if err != nil {
		return nil, err
	}
	return &wire.BackupBody{Backup: v}, nil
}

// createBackup checks what Trove checks, in its order, and says that no backup is made.
func (s *server) createBackup(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("backup")
	refusal := noBackups
	switch {
	case body.has("restore_from"):
		refusal = noRegister
		id := body.obj("restore_from").str("local_datastore_version_id")
		if _, err := s.cfg.Store.DatastoreVersion(ctx, id); err != nil {
			return nil, asBadRequest(fmt.Errorf("read the datastore version: %w", err), "Datastore version '%s' cannot be found.", id)
		}
	case !body.has("instance"):
		return nil, bad("instance is missing.")
	default:
		if err := s.checkBackup(ctx, c, body); err != nil {
			return nil, err
		}
	}
	if err := s.checkQuota(ctx, c.project, map[string]int{trove.QuotaBackups: 1}); err != nil {
		return nil, err
	}
	return nil, notYet(refusal)
}

// checkBackup checks that the instance can be backed up, on top of the parent that the request names.
func (s *server) checkBackup(ctx context.Context, c *call, body object) error {
	source := &call{project: c.project, admin: c.admin}
	if err := s.loadInstance(ctx, source, &Operation{}, body.str("instance")); err != nil {
		return err
	}
	i := &source.instance
	if err := i.CheckActionable(i.BackingUp); err != nil {
		return err
	}
	if i.ClusterID != "" {
		return inCluster()
	}
	if parent := body.str("parent_id"); parent != "" {
		if _, err := s.findBackup(ctx, c, parent); err != nil {
			return err
		}
	}
	return nil
}

// inCluster is what Trove says of an operation that the members of clusters do not take.
func inCluster() error {
	return trove.Errorf(trove.KindNotImplemented, "Operation not supported for instances that are part of a cluster.")
}

// checkQuota returns the error that taking the amounts would give now, and takes nothing.
func (s *server) checkQuota(ctx context.Context, project string, amounts map[string]int) error {
	quotas, err := s.cfg.Store.Quotas(ctx, project)
	if err != nil {
		return fmt.Errorf("read the quotas: %w", err)
	}
	var over []string
	for _, q := range quotas {
		if n := amounts[q.Resource]; n > 0 && q.Limit >= 0 && q.InUse+q.Reserved+n > q.Limit {
			over = append(over, q.Resource)
		}
	}
	if len(over) == 0 {
		return nil
	}
	return trove.Errorf(trove.KindOverLimit, "Quota exceeded for resources: %s.", pythonList(over))
}

// deleteBackup deletes a backup and those that build on it: all of them or none.
func (s *server) deleteBackup(ctx context.Context, c *call) (any, error) {
	first, err := s.findBackup(ctx, c, c.params.get("backup"))
	if err != nil {
		return nil, err
	}
	if err := s.enforce(c, "backup:delete", first.ProjectID); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		all, err := withChildren(ctx, tx, first.ID)
		if err != nil {
			return err
		}
		now := s.cfg.Clock.Now()
		for n := range all {
			if err := s.checkDeletable(&all[n]); err != nil {
				return err
			}
		}
		for _, b := range all {
			if err := tx.DeleteBackup(ctx, b.ID, now); err != nil {
				return err
			}
			if err := tx.GiveQuota(ctx, b.ProjectID, map[string]int{trove.QuotaBackups: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("delete the backup: %w", err)
	}
	return nil, nil
}

// checkDeletable returns nil if nothing is left behind when the backup's row goes. The object of one that was registered is not ours to remove.
func (s *server) checkDeletable(b *trove.Backup) error {
	if b.Busy(s.cfg.Clock.Now()) {
		return trove.Errorf(trove.KindUnprocessable, "Backup %s cannot be deleted because it is running.", b.ID)
	}
	if b.Location != "" && b.State != trove.BackupRestored {
		return notYet("Backup " + b.ID + " cannot be deleted yet: this release cannot remove its object " + b.Location + ".")
	}
	return nil
}

// withChildren returns a backup and all that build on it, each after its parent.
func withChildren(ctx context.Context, tx store.Tx, id string) ([]trove.Backup, error) {
	first, err := tx.Backup(ctx, id)
	if err != nil {
		return nil, err
	}
	all, seen := []trove.Backup{first}, map[string]bool{id: true}
	for n := 0; n < len(all); n++ {
		children, err := tx.Backups(ctx, store.BackupFilter{ParentID: all[n].ID})
		if err != nil {
			return nil, err
		}
		for _, b := range children {
			if !seen[b.ID] {
				seen[b.ID] = true
				all = append(all, b)
			}
		}
	}
	return all, nil
}

// checkRestorePoint checks the backup that an instance shall be made from.
func (s *server) checkRestorePoint(ctx context.Context, c *call, id string, version *trove.DatastoreVersion, i *trove.Instance) error {
	b, err := s.findBackup(ctx, c, id)
	if err != nil {
		return err
	}
	if !b.State.Usable() {
		return trove.Errorf(trove.KindConflict, "Unable to create instance because backup %s is not completed. Actual state: %s.", b.ID, b.State)
	}
	if i.VolumeSize > 0 && b.Size > float64(i.VolumeSize) {
		return trove.Errorf(trove.KindForbidden, "Backup is too large for given flavor or volume. Backup size: %s GBs. Available size: %d GBs.",
			pythonFloat(b.Size), i.VolumeSize)
	}
	of, _, err := s.datastoreVersion(ctx, b.DatastoreVersionID)
	if err != nil {
		return err
	}
	if of.DatastoreID != version.DatastoreID {
		return bad("The datastore from which the backup was taken, %s, does not match the destination datastore of %s.", of.DatastoreName, version.DatastoreName)
	}
	return nil
}

// pythonFloat prints a number as Python prints a float.
func pythonFloat(f float64) string {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// refuseParts answers for what a create names and this release does not do: a backup to restore, modules to apply. Everything that could be wrong with
// them, and with the quota, is said first.
func (s *server) refuseParts(ctx context.Context, c *call, body object, version *trove.DatastoreVersion, i *trove.Instance) error {
	var refusal error
	if body.has("restorePoint") {
		if err := s.checkRestorePoint(ctx, c, body.obj("restorePoint").str("backupRef"), version, i); err != nil {
			return err
		}
		refusal = notYet(noRestore)
	}
	if modules := body.list("modules"); len(modules) > 0 {
		if err := s.enforce(c, "instance:module_apply", c.project); err != nil {
			return err
		}
		if _, err := s.applicable(ctx, c, modules, version); err != nil {
			return err
		}
		if refusal == nil {
			refusal = notYet(noModules)
		}
	}
	if refusal == nil {
		return nil
	}
	if err := s.checkQuota(ctx, i.ProjectID, i.Held); err != nil {
		return err
	}
	return refusal
}

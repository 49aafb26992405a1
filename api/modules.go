package api

import (
	"context"
	"crypto/md5" //nolint:gosec // the sum that Trove's clients compare; nothing is protected by it
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// noModules is what is said of applying modules.
const noModules = "Modules cannot be applied to instances yet: this release keeps modules and does nothing with them."

// moduleTypes are the types that a module can have: Trove's drivers.
var moduleTypes = []string{"ping", "new_relic_license"}

// everything is Trove's word where a module is for all projects, datastores or versions.
const everything = "all"

func moduleOperations() []Operation {
	const all, one = "/modules", "/modules/{module}"
	return []Operation{
		{
			ID: "listModules", Method: http.MethodGet, Path: all, Rule: "module:index",
			Summary: "List the project's modules and those of all projects; administrators see every project's.",
			Query:   append([]Query{{"datastore", "string", "only those of this datastore, by id or name; all: those for every datastore"}}, paged...),
			Success: http.StatusOK, Response: wire.ModuleList{}, handle: (*server).listModules,
		},
		{
			ID: "createModule", Method: http.MethodPost, Path: all, Rule: "module:create", Schema: "module-create.json",
			Summary: "Create a module. Its contents are kept encrypted. Options beyond the project are for administrators.",
			Creates: true, Success: http.StatusOK, Response: wire.ModuleBody{}, handle: (*server).createModule,
		},
		{
			ID: "showModule", Method: http.MethodGet, Path: one, Rule: "module:show", Summary: "Show a module.",
			Success: http.StatusOK, Response: wire.ModuleBody{}, handle: (*server).showModule,
		},
		{
			ID: "updateModule", Method: http.MethodPut, Path: one, Rule: "module:update", Schema: "module-update.json",
			Summary: "Change a module; what is left out stays. One that instances have must be marked with live_update.",
			Success: http.StatusOK, Response: wire.ModuleBody{}, handle: (*server).updateModule,
		},
		{
			ID: "deleteModule", Method: http.MethodDelete, Path: one, Rule: "module:delete", Summary: "Delete a module that no instance has.",
			Success: http.StatusOK, handle: (*server).deleteModule,
		},
		{
			ID: "listModuleInstances", Method: http.MethodGet, Path: one + "/instances", Rule: "module:instances",
			Summary: "List the instances that have a module, or with count_only how many there are.",
			Query: append([]Query{
				{"count_only", "boolean", "counts in place of instances"},
				{"include_clustered", "boolean", "also members of clusters"},
			}, paged...),
			Success: http.StatusOK, Response: wire.InstanceList{}, handle: (*server).listModuleInstances,
		},
		{
			ID: "reapplyModule", Method: http.MethodPut, Path: one + "/instances", Rule: "module:reapply", Schema: "module-reapply.json",
			Summary: "Apply a module again to the instances that have it. Refused for now with 501 if there are any.",
			Success: http.StatusAccepted, handle: (*server).reapplyModule,
		},
		{
			ID: "listInstanceModules", Method: http.MethodGet, Path: "/instances/{instance}/modules", Rule: "instance:module_list",
			Summary: "List the modules that an instance has.",
			Query: []Query{
				{"from_guest", "string", "taken and ignored: the guest has what is listed"},
				{"include_contents", "string", "anything: with their contents"},
			},
			Success: http.StatusOK, Response: wire.ModuleList{}, handle: (*server).listInstanceModules,
		},
		{
			ID: "applyModules", Method: http.MethodPost, Path: "/instances/{instance}/modules", Rule: "instance:module_apply",
			Schema:  "instance-modules.json",
			Summary: "Apply modules to an instance. Refused for now with 501, after everything else was checked.",
			Creates: true, Success: http.StatusOK, Response: wire.ModuleList{}, handle: (*server).applyModules,
		},
		{
			ID: "removeModule", Method: http.MethodDelete, Path: "/instances/{instance}/modules/{module}", Rule: "instance:module_remove",
			Summary: "Remove a module from an instance. Refused for now with 501 if the instance has it.",
			Success: http.StatusOK, handle: (*server).removeModule,
		},
	}
}

// findModule finds a module that the caller may see, and checks the rule against the project that owns it.
func (s *server) findModule(ctx context.Context, c *call, id, rule string) (trove.Module, error) {
	m, err := s.cfg.Store.Module(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return m, fmt.Errorf("read the module: %w", err)
	}
	if err != nil || !visibleTo(c, &m) {
		return m, trove.Errorf(trove.KindNotFound, "Module with ID %s could not be found.", id)
	}
	if rule == "" {
		return m, nil
	}
	owner := m.ProjectID
	if owner == "" {
		owner = c.project
	}
	return m, s.enforce(c, rule, owner)
}

func visibleTo(c *call, m *trove.Module) bool {
	return c.admin || m.Visible && (m.ProjectID == c.project || m.ProjectID == "")
}

func (s *server) viewModule(ctx context.Context, m *trove.Module) (wire.Module, error) {
	out := wire.Module{
		ID: m.ID, Name: m.Name, Type: m.Type, Description: wire.Nullable(m.Description), TenantID: wire.Nullable(m.ProjectID),
		DatastoreID: wire.Nullable(m.DatastoreID), DatastoreVersionID: wire.Nullable(m.DatastoreVersionID), AutoApply: m.AutoApply,
		PriorityApply: m.PriorityApply, ApplyOrder: m.ApplyOrder, IsAdmin: m.IsAdmin, MD5: m.MD5, Visible: m.Visible, Created: wire.Time(m.Created),
		Updated: wire.Time(m.Updated), Tenant: everything, Datastore: everything, DatastoreVersion: everything,
	}
	if m.ProjectID != "" {
		out.Tenant = m.ProjectID
	}
	if m.DatastoreID != "" {
		out.Datastore = m.DatastoreID
		ds, err := s.cfg.Store.Datastore(ctx, m.DatastoreID)
		if err == nil {
			out.Datastore = ds.Name
		} else if !trove.IsNotFound(err) {
			return out, fmt.Errorf("read the datastore: %w", err)
		}
	}
	if m.DatastoreVersionID != "" {
		out.DatastoreVersion = m.DatastoreVersionID
		version, known, err := s.datastoreVersion(ctx, m.DatastoreVersionID)
		if err != nil {
			return out, err
		}
		if known {
			out.DatastoreVersion = version.Name
		}
	}
	return out, nil
}

// moduleBody shows one module with what lists leave out.
func (s *server) moduleBody(ctx context.Context, m *trove.Module) (*wire.ModuleBody, error) {
	v, err := s.viewModule(ctx, m)
	v.LiveUpdate = &m.LiveUpdate
	return &wire.ModuleBody{Module: v}, err
}

func (s *server) listModules(ctx context.Context, c *call) (any, error) {
	p, err := s.readPage(c, false)
	if err != nil {
		return nil, err
	}
	f := store.ModuleFilter{Marker: unquote(p.marker), Limit: p.limit + 1}
	if !c.admin {
		f.ProjectID, f.Visible = c.project, true
	}
	if name := c.req.URL.Query().Get("datastore"); name != "" {
		id := ""
		if !strings.EqualFold(name, everything) {
			ds, err := s.findDatastore(ctx, name)
			if err != nil {
				return nil, err
			}
			id = ds.ID
		}
		f.DatastoreID = &id
	}
	found, err := s.cfg.Store.Modules(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the modules: %w", err)
	}
	out := wire.ModuleList{Modules: []wire.Module{}}
	if len(found) > p.limit {
		found = found[:p.limit]
		out.Links = c.nextLink(found[p.limit-1].ID)
	}
	for n := range found {
		v, err := s.viewModule(ctx, &found[n])
		if err != nil {
			return nil, err
		}
		out.Modules = append(out.Modules, v)
	}
	return &out, nil
}

func (s *server) showModule(ctx context.Context, c *call) (any, error) {
	m, err := s.findModule(ctx, c, c.params.get("module"), "module:show")
	if err != nil {
		return nil, err
	}
	out, err := s.moduleBody(ctx, &m)
	if err != nil {
		return nil, err
	}
	links, err := s.cfg.Store.InstanceModules(ctx, "", m.ID)
	if err != nil {
		return nil, fmt.Errorf("count the instances of the module: %w", err)
	}
	count := len(links)
	out.Module.InstanceCount = &count
	return out, nil
}

func (s *server) createModule(ctx context.Context, c *call) (any, error) {
	now := s.cfg.Clock.Now()
	m := trove.Module{ID: trove.NewID(), ProjectID: c.project, Visible: true, ApplyOrder: 5, IsAdmin: c.admin, Created: now, Updated: now}
	w, err := s.changeModule(ctx, c, &m, "create")
	if err != nil {
		return nil, err
	}
	if w.fullAccess != nil && *w.fullAccess {
		m.IsAdmin = false
	}
	out, err := s.moduleBody(ctx, &m)
	if err != nil {
		return nil, err
	}
	if err := s.willAnswer(ctx, c, out); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := checkModuleName(ctx, tx, &m); err != nil {
			return err
		}
		return tx.InsertModule(ctx, m)
	})
	if err != nil {
		return nil, fmt.Errorf("create the module: %w", err)
	}
	return out, nil
}

func (s *server) updateModule(ctx context.Context, c *call) (any, error) {
	old, err := s.findModule(ctx, c, c.params.get("module"), "module:update")
	if err != nil {
		return nil, err
	}
	if err := s.checkUnused(ctx, s.cfg.Store, &old); err != nil {
		return nil, err
	}
	if old.IsAdmin && !c.admin {
		return nil, trove.Errorf(trove.KindForbidden, "You must be admin to update a module with these options. (Module is an admin module)")
	}
	m := old
	w, err := s.changeModule(ctx, c, &m, "update")
	if err != nil {
		return nil, err
	}
	m.IsAdmin = old.IsAdmin || w.options != ""
	if w.fullAccess != nil {
		m.IsAdmin = !*w.fullAccess
	}
	m.Updated = s.cfg.Clock.Now()
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := checkModuleName(ctx, tx, &m); err != nil {
			return err
		}
		return tx.UpdateModule(ctx, m.ID, m.Updated, func(now *trove.Module) error {
			if *now != old {
				return trove.Errorf(trove.KindUnavailable, "The module was changed just now. Try again.")
			}
			*now = m
			return s.checkUnused(ctx, tx, &old)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("update the module: %w", err)
	}
	return s.moduleBody(ctx, &m)
}

func (s *server) deleteModule(ctx context.Context, c *call) (any, error) {
	m, err := s.findModule(ctx, c, c.params.get("module"), "module:delete")
	if err != nil {
		return nil, err
	}
	if _, err := moduleOptions(c, &m, "delete", nil); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := s.checkUnused(ctx, tx, &m); err != nil {
			return err
		}
		return tx.DeleteModule(ctx, m.ID, s.cfg.Clock.Now())
	})
	if err != nil {
		return nil, fmt.Errorf("delete the module: %w", err)
	}
	return nil, nil
}

// wanted is what a request says beside the module's own fields.
type wanted struct {
	options    string // those that only administrators may set, "" if there are none
	fullAccess *bool
}

// changeModule checks the body of a create or an update and writes what it says into the module.
func (s *server) changeModule(ctx context.Context, c *call, m *trove.Module, action string) (w wanted, err error) {
	body := c.body.obj("module")
	for key, field := range map[string]*string{"name": &m.Name, "description": &m.Description, "module_type": &m.Type} {
		if text := body.strPtr(key); text != nil {
			*field = *text
		}
	}
	if !slices.Contains(moduleTypes, strings.ToLower(m.Type)) {
		return w, trove.Errorf(trove.KindNotFound, "Module type '%s' was not found.", m.Type)
	}
	m.Type = strings.ToLower(m.Type)
	everybody := m.ProjectID == ""
	for key, field := range map[string]*bool{
		"all_tenants": &everybody, "auto_apply": &m.AutoApply, "visible": &m.Visible, "live_update": &m.LiveUpdate, "priority_apply": &m.PriorityApply,
	} {
		if n, ok := whole(body[key]); ok {
			*field = n == 1
		}
	}
	switch {
	case everybody:
		m.ProjectID = ""
	case body.has("all_tenants"):
		m.ProjectID = c.project
	}
	if n, ok := whole(body["apply_order"]); ok {
		m.ApplyOrder = n
	}
	if n, ok := whole(body["full_access"]); ok {
		w.fullAccess = new(n == 1)
	}
	if w.options, err = moduleOptions(c, m, action, w.fullAccess); err != nil {
		return w, err
	}
	if err := s.chooseModuleDatastore(ctx, body, m); err != nil {
		return w, err
	}
	if contents := body.strPtr("contents"); contents != nil {
		sum := md5.Sum([]byte(*contents)) //nolint:gosec // see the import
		m.MD5 = hex.EncodeToString(sum[:])
		if m.Contents, err = s.cfg.Sealer.Seal(ctx, trove.ModulePurpose(m.ID), trove.Secret(*contents)); err != nil {
			return w, fmt.Errorf("seal the contents: %w", err)
		}
	}
	return w, nil
}

// moduleOptions returns which options the module has that only administrators may set, and refuses others.
func moduleOptions(c *call, m *trove.Module, action string, fullAccess *bool) (string, error) {
	var options []string
	for _, o := range []struct {
		set  bool
		text string
	}{
		{m.ProjectID == "", "Tenant: all"},
		{m.AutoApply, "Auto: 1"},
		{!m.Visible, "Visible: 0"},
		{m.PriorityApply, "Priority: 1"},
	} {
		if o.set {
			options = append(options, o.text)
		}
	}
	if fullAccess != nil {
		if *fullAccess && len(options) > 0 {
			return "", bad("The following values are invalid: Cannot make module full access: (%s).", strings.Join(options, ", "))
		}
		options = append(options, map[bool]string{true: "Full Access: 1", false: "Full Access: 0"}[*fullAccess])
	}
	if len(options) == 0 {
		return "", nil
	}
	text := "(" + strings.Join(options, ", ") + ")"
	if !c.admin {
		return text, trove.Errorf(trove.KindForbidden, "You must be admin to %s a module with these options. %s", action, text)
	}
	return text, nil
}

// chooseModuleDatastore reads which datastore and version a module is for.
func (s *server) chooseModuleDatastore(ctx context.Context, body object, m *trove.Module) error {
	want := body.obj("datastore")
	for key, part := range map[string]struct {
		given bool
		id    *string
		word  string
	}{
		"all_datastores":         {want.has("type"), &m.DatastoreID, "datastore"},
		"all_datastore_versions": {want.has("version"), &m.DatastoreVersionID, "datastore version"},
	} {
		if n, _ := whole(body[key]); n != 1 {
			continue
		}
		if part.given {
			return bad("The module is invalid: You cannot set a %s and specify --%s", part.word, key)
		}
		*part.id = ""
	}
	if ref := want.str("type"); ref != "" {
		ds, err := s.findDatastore(ctx, ref)
		if err != nil {
			return err
		}
		if ds.ID != m.DatastoreID {
			m.DatastoreID, m.DatastoreVersionID = ds.ID, ""
		}
	}
	ref := want.str("version")
	if ref == "" && (m.DatastoreID != "" || m.DatastoreVersionID == "") {
		return nil
	}
	if m.DatastoreID == "" {
		return bad("The module is invalid: a version needs its datastore.")
	}
	v, err := s.findVersion(ctx, trove.Datastore{ID: m.DatastoreID, Name: want.str("type")}, ref, "")
	m.DatastoreVersionID = v.ID
	return err
}

// checkModuleName refuses a second module of the same name, type, project, datastore and version.
func checkModuleName(ctx context.Context, tx store.Tx, m *trove.Module) error {
	same, err := tx.Modules(ctx, store.ModuleFilter{Name: m.Name})
	if err != nil {
		return err
	}
	for n := range same {
		o := &same[n]
		if o.ID != m.ID && o.Type == m.Type && o.ProjectID == m.ProjectID && o.DatastoreID == m.DatastoreID && o.DatastoreVersionID == m.DatastoreVersionID {
			return bad("A module with the name '%s' already exists for datastore '%s' and datastore version '%s'", m.Name, orAll(m.DatastoreID),
				orAll(m.DatastoreVersionID))
		}
	}
	return nil
}

func orAll(id string) string {
	if id == "" {
		return everything
	}
	return id
}

// checkUnused returns nil if the module may change: it says so itself, or no instance has it as it is.
func (*server) checkUnused(ctx context.Context, r store.Reader, m *trove.Module) error {
	if m.LiveUpdate {
		return nil
	}
	links, err := r.InstanceModules(ctx, "", m.ID)
	if err != nil {
		return fmt.Errorf("look for the instances of the module: %w", err)
	}
	if slices.ContainsFunc(links, func(l trove.InstanceModule) bool { return l.MD5 == m.MD5 }) {
		return trove.Errorf(trove.KindForbidden, "A module cannot be deleted or its contents modified if it has been applied to a non-terminated instance, "+
			"unless the module has been marked as 'live_update.' Please remove the module from all non-terminated instances and try again.")
	}
	return nil
}

package openstacktest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// zone is one of Designate.
type zone struct {
	id      string
	project string
	sets    map[string]*RecordSet
}

// RecordSet is what a zone has under a name.
type RecordSet struct {
	ID          string   `json:"id"`
	ZoneID      string   `json:"zone_id"`
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Records     []string `json:"records"`
	Description string   `json:"description"`
	TTL         int      `json:"ttl"`
	Status      string   `json:"status"`
}

// AddZone makes a zone of a project.
func (c *Cloud) AddZone(project, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.zones[name] = &zone{id: trove.NewID(), project: project, sets: map[string]*RecordSet{}}
}

// RecordSets returns what a zone has, by name and type.
func (c *Cloud) RecordSets(name string) []RecordSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []RecordSet
	for _, s := range c.zones[name].sets {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b RecordSet) int { return strings.Compare(a.Name+a.Type, b.Name+b.Type) })
	return all
}

func (c *Cloud) designate(w http.ResponseWriter, r *http.Request, who Who) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/designate/v2/zones"), "/")
	if len(parts) == 1 {
		list := []any{}
		for name, z := range c.zones {
			if z.project == who.ProjectID && (r.URL.Query().Get("name") == "" || r.URL.Query().Get("name") == name) {
				list = append(list, map[string]any{"id": z.id, "name": name, "status": "ACTIVE", "links": map[string]any{}})
			}
		}
		answer(w, http.StatusOK, map[string]any{"zones": list, "links": map[string]any{}})
		return
	}
	for name, z := range c.zones {
		if z.id == parts[1] && z.project == who.ProjectID {
			z.serve(w, r, name, append(parts, "")[3])
			return
		}
	}
	refuse(w, http.StatusNotFound, "Could not find Zone")
}

// serve is for the record sets of a zone, or for one of them.
func (z *zone) serve(w http.ResponseWriter, r *http.Request, name, id string) {
	q, there := r.URL.Query(), z.sets[id]
	if id != "" && there == nil {
		refuse(w, http.StatusNotFound, "Could not find RecordSet")
		return
	}
	switch r.Method {
	case http.MethodGet:
		list := []RecordSet{}
		for _, s := range z.sets {
			if (q.Get("name") == "" || s.Name == q.Get("name")) && (q.Get("type") == "" || s.Type == q.Get("type")) {
				list = append(list, *s)
			}
		}
		answer(w, http.StatusOK, map[string]any{"recordsets": list, "links": map[string]any{}})
	case http.MethodPost:
		s := RecordSet{ID: trove.NewID(), ZoneID: z.id, Status: "PENDING"}
		if json.NewDecoder(r.Body).Decode(&s) != nil || !strings.HasSuffix(s.Name, "."+name) || len(s.Records) == 0 {
			refuse(w, http.StatusBadRequest, "Provided object does not match schema")
			return
		}
		for _, other := range z.sets {
			if other.Name == s.Name && other.Type == s.Type {
				refuse(w, http.StatusConflict, "Duplicate RecordSet")
				return
			}
		}
		z.sets[s.ID] = &s
		answer(w, http.StatusAccepted, s)
	case http.MethodPut:
		if json.NewDecoder(r.Body).Decode(there) != nil {
			refuse(w, http.StatusBadRequest, "Provided object does not match schema")
			return
		}
		answer(w, http.StatusAccepted, there)
	case http.MethodDelete:
		delete(z.sets, id)
		answer(w, http.StatusAccepted, there)
	}
}

// Describe gives all record sets of a zone another description, as somebody else's have.
func (c *Cloud) Describe(zone, description string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.zones[zone].sets {
		s.Description = description
	}
}

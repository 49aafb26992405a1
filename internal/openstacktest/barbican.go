package openstacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// secret is one of Barbican, or a container of certificates.
type secret struct {
	project string
	name    string
	payload []byte
	kind    string
	created time.Time
	refs    map[string]string // of a container, by the names of its parts
}

// PutSecret stores a secret of a project and returns its reference.
func (c *Cloud) PutSecret(project, name, contentType string, payload []byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := trove.NewID()
	c.secrets[id] = &secret{project: project, name: name, payload: payload, kind: contentType, created: c.clock.Now()}
	return c.URL + "/barbican/v1/secrets/" + id
}

// PutContainer stores a container of certificates and returns its reference.
func (c *Cloud) PutContainer(project string, refs map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := trove.NewID()
	c.secrets[id] = &secret{project: project, refs: refs}
	return c.URL + "/barbican/v1/containers/" + id
}

// Secrets returns the payloads of a project's secrets of a name, the oldest first.
func (c *Cloud) Secrets(project, name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, id := range c.secretsOf(project, name) {
		all = append(all, string(c.secrets[id].payload))
	}
	return all
}

func (c *Cloud) secretsOf(project, name string) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.secrets)) {
		if s := c.secrets[id]; s.project == project && s.refs == nil && (name == "" || s.name == name) {
			ids = append(ids, id)
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return c.secrets[a].created.Compare(c.secrets[b].created) })
	return ids
}

func (c *Cloud) barbican(w http.ResponseWriter, r *http.Request, who Who) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/barbican/v1/"), "/")
	if len(parts) == 1 {
		c.allSecrets(w, r, who)
		return
	}
	s := c.secrets[parts[1]]
	switch {
	case s == nil || (parts[0] == "containers") != (s.refs != nil):
		refuse(w, http.StatusNotFound, "Not Found. Sorry but your secret is in another castle.")
	case s.project != who.ProjectID:
		refuse(w, http.StatusForbidden, "Secret retrieval attempt not allowed - please review your user/project privileges")
	case r.Method == http.MethodDelete:
		delete(c.secrets, parts[1])
		w.WriteHeader(http.StatusNoContent)
	case s.refs != nil:
		list := []any{}
		for _, name := range slices.Sorted(maps.Keys(s.refs)) {
			list = append(list, map[string]any{"name": name, "secret_ref": s.refs[name]})
		}
		answer(w, http.StatusOK, map[string]any{"type": "certificate", "secret_refs": list})
	case len(parts) == 3 && parts[2] == "payload":
		if r.Header.Get("Accept") != s.kind {
			refuse(w, http.StatusNotAcceptable, "Secret payload retrieval issue seen - payload content type is another one")
			return
		}
		w.Header().Set("Content-Type", s.kind)
		_, _ = w.Write(s.payload)
	default:
		answer(w, http.StatusOK, c.describe(parts[1]))
	}
}

func (c *Cloud) describe(id string) map[string]any {
	s := c.secrets[id]
	return map[string]any{
		"name": s.name, "secret_ref": c.URL + "/barbican/v1/secrets/" + id, "created": s.created.Format("2006-01-02T15:04:05"), "status": "ACTIVE",
		"content_types": map[string]string{"default": s.kind},
	}
}

func (c *Cloud) allSecrets(w http.ResponseWriter, r *http.Request, who Who) {
	if r.Method == http.MethodPost {
		var ask struct {
			Name    string `json:"name"`
			Payload string `json:"payload"`
			Type    string `json:"payload_content_type"`
		}
		if json.NewDecoder(r.Body).Decode(&ask) != nil || ask.Type == "" {
			refuse(w, http.StatusBadRequest, "Provided object does not match schema 'Secret'")
			return
		}
		id := trove.NewID()
		c.secrets[id] = &secret{project: who.ProjectID, name: ask.Name, payload: []byte(ask.Payload), kind: ask.Type, created: c.clock.Now()}
		answer(w, http.StatusCreated, map[string]any{"secret_ref": c.URL + "/barbican/v1/secrets/" + id})
		return
	}
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil {
		limit = 10
	}
	offset, _ := strconv.Atoi(q.Get("offset"))
	ids := c.secretsOf(who.ProjectID, q.Get("name"))
	body := map[string]any{"total": len(ids)}
	ids = ids[min(offset, len(ids)):]
	if len(ids) > limit {
		ids = ids[:limit]
		body["next"] = fmt.Sprintf("%s/barbican/v1/secrets?name=%s&limit=%d&offset=%d", c.URL, q.Get("name"), limit, offset+limit)
	}
	list := []any{}
	for _, id := range ids {
		list = append(list, c.describe(id))
	}
	body["secrets"] = list
	answer(w, http.StatusOK, body)
}

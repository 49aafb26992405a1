package local

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/edge"
)

// maxBody is how large a request may be, in bytes.
const maxBody = 64 << 10

// timeFormat is how Keystone prints times.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// ServeHTTP serves the Identity API below /identity.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /identity", s.versions)
	mux.HandleFunc("GET /identity/{$}", s.versions)
	mux.HandleFunc("GET /identity/v3", s.version)
	mux.HandleFunc("GET /identity/v3/{$}", s.version)
	mux.HandleFunc("POST /identity/v3/auth/tokens", s.createToken)
	mux.HandleFunc("GET /identity/v3/auth/tokens", s.authed(s.showToken))
	mux.HandleFunc("DELETE /identity/v3/auth/tokens", s.authed(s.revokeToken))
	mux.HandleFunc("GET /identity/v3/auth/catalog", s.authed(s.showCatalog))
	mux.HandleFunc("GET /identity/v3/auth/projects", s.authed(s.ownProjects))
	mux.HandleFunc("GET /identity/v3/users/{user}/projects", s.authed(s.ownProjects))
	mux.HandleFunc("GET /identity/v3/projects", s.authed(s.listProjects))
	mux.HandleFunc("GET /identity/v3/projects/{project}", s.authed(s.showProject))
	mux.HandleFunc("/identity/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, trove.Errorf(trove.KindNotFound, "The local identity service does not have this path."))
	})
	return mux
}

type object = map[string]any

func (s *Service) baseURL(r *http.Request) string {
	if s.cfg.PublicURL != "" {
		return s.cfg.PublicURL
	}
	return edge.Of(r).Base()
}

func (s *Service) versionDoc(r *http.Request) object {
	return object{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []object{{"rel": "self", "href": s.baseURL(r) + "/identity/v3/"}},
		"media-types": []object{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

func (s *Service) versions(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusMultipleChoices, object{"versions": object{"values": []object{s.versionDoc(r)}}})
}

func (s *Service) version(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, object{"version": s.versionDoc(r)})
}

type authRequest struct {
	Auth struct {
		Identity struct {
			Methods  []string `json:"methods"`
			Password *struct {
				User struct {
					ID       string       `json:"id"`
					Name     string       `json:"name"`
					Password trove.Secret `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Token *struct {
				ID trove.Secret `json:"id"`
			} `json:"token"`
		} `json:"identity"`
		Scope json.RawMessage `json:"scope"`
	} `json:"auth"`
}

type authScope struct {
	Project *struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"project"`
}

// project returns what the request wants its token for: "" for an unscoped one. Besides an object a scope can be the text "unscoped".
func (a authRequest) project() (string, error) {
	raw := strings.TrimSpace(string(a.Auth.Scope))
	if raw == "" || raw == "null" || raw == `"unscoped"` {
		return "", nil
	}
	var scope authScope
	if err := json.Unmarshal(a.Auth.Scope, &scope); err != nil || scope.Project == nil {
		return "", trove.Errorf(trove.KindBadRequest, "auth.scope: only a project can be asked for.")
	}
	if p := first(scope.Project.ID, scope.Project.Name); p != "" {
		return p, nil
	}
	return "", trove.Errorf(trove.KindBadRequest, "auth.scope.project: neither an id nor a name is given.")
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (s *Service) createToken(w http.ResponseWriter, r *http.Request) {
	var req authRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req); err != nil {
		fail(w, trove.Wrap(trove.KindBadRequest, err, "The request body is not the JSON object that /v3/auth/tokens takes."))
		return
	}
	userID, err := s.checkIdentity(r.Context(), req)
	if err != nil {
		fail(w, err)
		return
	}
	project, err := req.project()
	if err != nil {
		fail(w, err)
		return
	}
	if project != "" {
		p, _, err := s.projectRoles(r.Context(), userID, project)
		if err != nil {
			fail(w, err)
			return
		}
		project = p.ID
	}
	secret, t, err := s.issue(r.Context(), userID, project)
	if err != nil {
		fail(w, err)
		return
	}
	c, err := s.authenticate(r.Context(), secret)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("X-Subject-Token", secret.Reveal())
	answer(w, http.StatusCreated, s.tokenBody(r, c, t, req.Auth.Identity.Methods))
}

// checkIdentity returns the user that the request proves to be.
func (s *Service) checkIdentity(ctx context.Context, req authRequest) (string, error) {
	id := req.Auth.Identity
	switch {
	case id.Password != nil:
		u, err := s.cfg.Repository.IdentityUser(ctx, first(id.Password.User.ID, id.Password.User.Name))
		if err != nil && !trove.IsNotFound(err) {
			return "", unavailable(err)
		}
		ok, err := s.hasher.matches(ctx, id.Password.User.Password, u.PasswordHash)
		if err != nil {
			return "", err
		}
		if !ok || !u.Enabled {
			return "", errUnauthorized()
		}
		return u.ID, nil
	case id.Token != nil:
		c, err := s.authenticate(ctx, id.Token.ID)
		return c.UserID, err
	}
	return "", trove.Errorf(trove.KindBadRequest, "auth.identity.methods: the local identity service knows \"password\" and \"token\".")
}

func (s *Service) tokenBody(r *http.Request, c identity.Caller, t Token, methods []string) object {
	domain := object{"id": DomainID, "name": DomainName}
	body := object{
		"methods": methods, "issued_at": t.Issued.Format(timeFormat), "expires_at": t.Expires.Format(timeFormat),
		"audit_ids": []string{t.Hash[:22]},
		"user":      object{"id": c.UserID, "name": c.UserName, "domain": domain, "password_expires_at": nil},
	}
	if c.ProjectID != "" {
		roles := make([]object, 0, len(c.Roles))
		for _, name := range c.Roles {
			roles = append(roles, object{"id": name, "name": name})
		}
		body["project"] = object{"id": c.ProjectID, "name": c.ProjectName, "domain": domain}
		body["is_domain"] = false
		body["roles"] = roles
		body["catalog"] = s.catalog(r, c.ProjectID)
	}
	return object{"token": body}
}

func (s *Service) catalog(r *http.Request, project string) []object {
	base := s.baseURL(r)
	service := func(kind, name, url string) object {
		endpoints := make([]object, 0, 3)
		for _, iface := range []string{"public", "internal", "admin"} {
			endpoints = append(endpoints, object{
				"id": kind + "-" + iface, "interface": iface, "url": url, "region": s.cfg.Region, "region_id": s.cfg.Region,
			})
		}
		return object{"id": kind, "type": kind, "name": name, "endpoints": endpoints}
	}
	all := []object{
		service("database", "trove", base+"/v1.0/"+project),
		service("identity", "keystone", base+"/identity/v3"),
	}
	for _, other := range s.cfg.Services {
		all = append(all, service(other.Type, other.Name, other.URL))
	}
	return all
}

// authed wraps a handler that needs a valid X-Auth-Token.
func (s *Service) authed(h func(http.ResponseWriter, *http.Request, identity.Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := s.authenticate(r.Context(), trove.Secret(r.Header.Get("X-Auth-Token")))
		if err != nil {
			fail(w, err)
			return
		}
		h(w, r, c)
	}
}

// subject returns the token that a request is about: the caller's own, or any for an administrator.
func (s *Service) subject(r *http.Request, c identity.Caller) (trove.Secret, error) {
	subject := trove.Secret(r.Header.Get("X-Subject-Token"))
	if subject == "" {
		return "", trove.Errorf(trove.KindBadRequest, "The header X-Subject-Token is missing.")
	}
	if subject != c.Token && !c.HasRole("admin") {
		return "", trove.Errorf(trove.KindForbidden, "You are not authorized to perform the requested action: identity:validate_token.")
	}
	return subject, nil
}

func (s *Service) showToken(w http.ResponseWriter, r *http.Request, c identity.Caller) {
	subject, err := s.subject(r, c)
	if err != nil {
		fail(w, err)
		return
	}
	owner, err := s.authenticate(r.Context(), subject)
	if err != nil {
		fail(w, trove.Errorf(trove.KindNotFound, "The token is not valid."))
		return
	}
	t, err := s.cfg.Repository.IdentityToken(r.Context(), tokenHash(subject))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("X-Subject-Token", subject.Reveal())
	answer(w, http.StatusOK, s.tokenBody(r, owner, t, []string{"password"}))
}

func (s *Service) revokeToken(w http.ResponseWriter, r *http.Request, c identity.Caller) {
	subject, err := s.subject(r, c)
	if err == nil {
		hash := tokenHash(subject)
		err = s.cfg.Repository.DeleteIdentityToken(r.Context(), hash)
		s.forget(hash)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) showCatalog(w http.ResponseWriter, r *http.Request, c identity.Caller) {
	answer(w, http.StatusOK, object{"catalog": s.catalog(r, c.ProjectID), "links": object{}})
}

func (s *Service) ownProjects(w http.ResponseWriter, r *http.Request, c identity.Caller) {
	s.answerProjects(w, r, c.UserID)
}

func (s *Service) listProjects(w http.ResponseWriter, r *http.Request, c identity.Caller) {
	user := c.UserID
	if c.HasRole("admin") {
		user = "" // all of them
	}
	s.answerProjects(w, r, user)
}

func (s *Service) answerProjects(w http.ResponseWriter, r *http.Request, user string) {
	projects, err := s.cfg.Repository.IdentityProjects(r.Context(), user)
	if err != nil {
		fail(w, err)
		return
	}
	name, list := r.URL.Query().Get("name"), []object{}
	for _, p := range projects {
		if name == "" || p.Name == name {
			list = append(list, projectBody(p))
		}
	}
	answer(w, http.StatusOK, object{"projects": list, "links": object{"next": nil, "previous": nil}})
}

func (s *Service) showProject(w http.ResponseWriter, r *http.Request, c identity.Caller) {
	id := r.PathValue("project")
	p, err := s.cfg.Repository.IdentityProject(r.Context(), id)
	if err == nil && (p.ID != id || p.ID != c.ProjectID && !c.HasRole("admin")) {
		err = trove.Errorf(trove.KindNotFound, "Could not find project: %s.", id)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, object{"project": projectBody(p)})
}

func projectBody(p Project) object {
	return object{"id": p.ID, "name": p.Name, "domain_id": DomainID, "enabled": p.Enabled, "is_domain": false, "parent_id": DomainID, "description": ""}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Vary", "X-Auth-Token")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went away; there is nobody to tell
}

// fail answers in Keystone's form.
func fail(w http.ResponseWriter, err error) {
	status, message := http.StatusInternalServerError, trove.MessageOf(err)
	switch trove.KindOf(err) {
	case trove.KindBadRequest:
		status = http.StatusBadRequest
	case trove.KindUnauthorized:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Keystone uri="/identity/v3"`)
	case trove.KindForbidden:
		status = http.StatusForbidden
	case trove.KindNotFound:
		status = http.StatusNotFound
	case trove.KindUnavailable:
		status = http.StatusServiceUnavailable
	}
	answer(w, status, object{"error": object{"code": status, "title": http.StatusText(status), "message": message}})
}

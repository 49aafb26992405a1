package openstacktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// call is a request that is being answered. The lock is held.
type call struct {
	*Cloud
	w       http.ResponseWriter
	r       *http.Request
	body    Object
	project string
	admin   bool
}

// ServeHTTP answers a request, or does what a fault says.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // a cut body is no JSON
	r.Body = io.NopCloser(bytes.NewReader(body))
	c.mu.Lock()
	f := c.fault(r)
	if r.URL.Path != "/v3/auth/tokens" {
		c.requests = append(c.requests, Request{
			r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("X-Auth-Token"), r.Header.Get("OpenStack-API-Version"), string(body),
		})
	}
	c.mu.Unlock()
	w.Header().Set("X-Openstack-Request-Id", "req-"+newID())
	if len(r.URL.RequestURI()) > longestURI {
		w.WriteHeader(http.StatusRequestURITooLong)
		return
	}
	if f == nil {
		c.mux.ServeHTTP(w, r)
		return
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case f.Lost:
		c.mux.ServeHTTP(&dropped{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case f.Status == 0:
		c.mux.ServeHTTP(w, r)
	default:
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body)
	}
}

// longestURI is what the servers of OpenStack's services take.
const longestURI = 8190

// dropped is where an answer goes that does not arrive.
type dropped struct{ header http.Header }

func (d *dropped) Header() http.Header          { return d.header }
func (*dropped) Write(data []byte) (int, error) { return len(data), nil }
func (*dropped) WriteHeader(int)                {}

// fault returns the fault for a request. The caller holds the lock.
func (c *Cloud) fault(r *http.Request) *Fault {
	for n, f := range c.faults {
		if (f.Method != "" && f.Method != r.Method) || !strings.HasPrefix(r.URL.Path, f.Path) {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		if f.Times == 1 {
			c.faults = slices.Delete(c.faults, n, n+1)
		}
		f.Times = max(f.Times-1, 0)
		return f
	}
	return nil
}

// handle answers requests of a pattern, for those who have a token.
func (c *Cloud) handle(pattern string, do func(*call)) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		project, ok := c.tokens[r.Header.Get("X-Auth-Token")]
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		k := &call{Cloud: c, w: w, r: r, project: project, admin: project == Service}
		_ = json.NewDecoder(r.Body).Decode(&k.body) // without one it is empty
		do(k)
	})
}

func (c *Cloud) identity() {
	c.mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		if !strings.Contains(string(body), Password) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c.logins++
		token := fmt.Sprintf("service-%d", c.logins)
		c.tokens[token] = Service
		var catalog []Object
		for kind, path := range map[string]string{
			"compute": "/compute/v2.1", "volumev3": "/volume/v3/" + Service, "network": "/network", "image": "/image", "identity": "",
		} {
			catalog = append(catalog, Object{"type": kind, "endpoints": []Object{{"interface": "internal", "region": "RegionOne", "region_id": "RegionOne", "url": c.URL + path}}})
		}
		w.Header().Set("X-Subject-Token", token)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(Object{"token": Object{"user": Object{"id": "trove"}, "project": Object{"id": Service}, "catalog": catalog}})
	})
}

func (k *call) answer(status int, body any) {
	k.w.Header().Set("Content-Type", "application/json")
	k.w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(k.w).Encode(body)
	}
}

// refuse is how Nova and Cinder say no.
func (k *call) refuse(status int, format string, args ...any) {
	k.answer(status, Object{"fault": Object{"code": status, "message": fmt.Sprintf(format, args...)}})
}

// refuseNet is how Neutron does.
func (k *call) refuseNet(status int, kind, format string, args ...any) {
	k.answer(status, Object{"NeutronError": Object{"type": kind, "message": fmt.Sprintf(format, args...), "detail": ""}})
}

// find returns the thing that the path names, and answers if there is none.
func (k *call) find(kind string) Object {
	o := k.all[kind][k.r.PathValue("id")]
	if o == nil || !k.admin && o["project_id"] != nil && o["project_id"] != k.project {
		k.refuse(http.StatusNotFound, "%s %s could not be found.", kind, k.r.PathValue("id"))
		return nil
	}
	k.look(o)
	return o
}

// one answers with the thing that the path names, under a key or bare.
func (k *call) one(kind, key string) {
	o := k.find(kind)
	switch {
	case o == nil:
	case key == "":
		k.answer(http.StatusOK, o)
	default:
		k.answer(http.StatusOK, Object{key: o})
	}
}

// list answers with what matches the query, of each thing the fields alone if there are any, in two pages where there is more than one thing of Nova or more than
// the query's limit.
func (k *call) list(kind, key string, fields ...string) {
	query := k.r.URL.Query()
	if asked := query["fields"]; len(asked) > 0 {
		fields = asked
	}
	var found []Object
	past := query.Get("marker") == ""
	for _, o := range k.sorted(kind) {
		k.look(o)
		if k.all[kind][o["id"].(string)] == nil || !k.matches(o) { // an id is a string
			continue
		}
		if past {
			found = append(found, shown(o, fields))
		}
		past = past || o["id"] == query.Get("marker")
	}
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil {
		limit = len(found)
	}
	if query.Get("marker") == "" && strings.HasPrefix(k.r.URL.Path, "/compute") {
		limit = min(limit, 1)
	}
	body := Object{key: append([]Object{}, found[:min(limit, len(found))]...)}
	if limit < len(found) {
		query.Set("marker", found[limit-1]["id"].(string))
		body[key+"_links"] = []Object{{"rel": "next", "href": k.URL + k.r.URL.Path + "?" + query.Encode()}}
	}
	k.answer(http.StatusOK, body)
}

// shown is a thing, or those of its fields.
func shown(o Object, fields []string) Object {
	if len(fields) == 0 {
		return o
	}
	part := Object{}
	for _, name := range fields {
		if v, ok := o[name]; ok {
			part[name] = v
		}
	}
	return part
}

// matches reports whether a thing has what the query asks for.
func (k *call) matches(o Object) bool {
	if !k.admin && o["project_id"] != nil && o["project_id"] != k.project && o["shared"] != true {
		return false
	}
	if o["status"] == softDeleted { // they are asked for by themselves alone
		return false
	}
	for key, values := range k.r.URL.Query() {
		switch key {
		case "marker", "limit", "fields":
		case "tags", "tags-any": // of several, nobody asks for all
			tags, _ := o["tags"].([]any)
			if !slices.ContainsFunc(strings.Split(values[0], ","), func(t string) bool { return slices.Contains(tags, any(t)) }) {
				return false
			}
		case "metadata":
			var want map[string]string
			if json.Unmarshal([]byte(values[0]), &want) != nil {
				return false
			}
			has, _ := o["metadata"].(Object)
			for name, v := range want {
				if has[name] != v {
					return false
				}
			}
		case "name":
			if !k.named(values[0], fmt.Sprint(o[key])) {
				return false
			}
		default:
			if !slices.Contains(values, fmt.Sprint(o[key])) {
				return false
			}
		}
	}
	return true
}

// named compares names: Nova takes what it is asked for as a regular expression without alternatives, and nobody else does.
func (k *call) named(asked, name string) bool {
	if !strings.HasPrefix(k.r.URL.Path, compute) {
		return asked == name
	}
	ok, err := regexp.MatchString(strings.ReplaceAll(asked, "|", `\|`), name)
	return err == nil && ok
}

func (k *call) remove(kind string) {
	if o := k.find(kind); o != nil {
		delete(k.all[kind], k.r.PathValue("id"))
		k.answer(http.StatusNoContent, nil)
	}
}

// merged is a copy of an object with others over it.
func merged(base Object, over ...Object) Object {
	o := maps.Clone(base)
	for _, m := range over {
		maps.Copy(o, m)
	}
	return o
}

package openstacktest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what Swift compares with
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// account is one of Swift.
type account struct {
	containers map[string]*container
	quota      int // bytes; 0: none
}

type container struct {
	headers map[string]string // the rights
	objects map[string]*object
}

type object struct {
	data     []byte
	tag      string
	modified time.Time
	expires  time.Time // zero: never
	headers  map[string]string
	pieces   []string // /container/name; nil: it has bytes of its own
}

// read reads a body before anything is locked. One that breaks off is no request.
func read(w http.ResponseWriter, r *http.Request) (io.ReadCloser, bool) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(499)
		return nil, false
	}
	return io.NopCloser(bytes.NewReader(data)), true
}

// Quota bounds the bytes of an account.
func (c *Cloud) Quota(project string, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account(project).quota = most
}

// SetRights sets a container's rights, as its owner would.
func (c *Cloud) SetRights(project, name, readers, writers string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.account(project)
	if a.containers[name] == nil {
		a.containers[name] = &container{objects: map[string]*object{}}
	}
	a.containers[name].headers = map[string]string{"X-Container-Read": readers, "X-Container-Write": writers}
}

// Objects returns the names in a container that are there, with those that end by themselves if ending is set.
func (c *Cloud) Objects(project, name string, ending bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	if found := c.account(project).containers[name]; found != nil {
		for n, o := range found.objects {
			if o.expires.IsZero() || ending && o.expires.After(c.clock.Now()) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Containers returns the names of an account's containers.
func (c *Cloud) Containers(project string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.account(project).containers))
}

// Damage changes a byte of an object.
func (c *Cloud) Damage(project, name, object string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data := c.account(project).containers[name].objects[object].data
	data[0] ^= 1
}

func (c *Cloud) account(project string) *account {
	a := c.accounts[project]
	if a == nil {
		a = &account{containers: map[string]*container{}}
		c.accounts[project] = a
	}
	return a
}

func (c *Cloud) swift(w http.ResponseWriter, r *http.Request, who Who) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/swift/v1/AUTH_"), "/", 3)
	for len(parts) < 3 {
		parts = append(parts, "")
	}
	if !utf8.ValidString(parts[2]) || !utf8.ValidString(r.URL.Query().Get("prefix")) || !utf8.ValidString(r.URL.Query().Get("marker")) {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	a := c.account(parts[0])
	found := a.containers[parts[1]]
	owner := who.has("ResellerAdmin") || who.ProjectID == parts[0] && (who.has("member") || who.has("admin"))
	if !owner && (parts[1] == "" || !found.allows(who, r.Method, parts[2] != "")) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	switch {
	case parts[1] == "":
		w.WriteHeader(http.StatusNoContent)
	case parts[2] == "":
		a.serve(w, r, parts[1], found, c.clock.Now())
	case found == nil:
		w.WriteHeader(http.StatusNotFound)
	default:
		o := &objectCall{cloud: c, account: a, container: found, name: parts[2], w: w, r: r, now: c.clock.Now()}
		o.serve()
	}
}

// allows reads the rights that an owner gave: users as project:user.
func (c *container) allows(who Who, method string, object bool) bool {
	if c == nil {
		return false
	}
	list := c.headers["X-Container-Read"]
	if method == http.MethodPut || method == http.MethodDelete || method == http.MethodPost {
		if !object {
			return false
		}
		list = c.headers["X-Container-Write"]
	}
	return slices.Contains(strings.Split(list, ","), who.ProjectID+":"+who.UserID)
}

func (a *account) serve(w http.ResponseWriter, r *http.Request, name string, found *container, now time.Time) {
	if r.Method == http.MethodPut {
		status := http.StatusAccepted
		if found == nil {
			found, status = &container{headers: map[string]string{}, objects: map[string]*object{}}, http.StatusCreated
			a.containers[name] = found
		}
		for _, h := range []string{"X-Container-Read", "X-Container-Write"} {
			if v := r.Header.Get(h); v != "" {
				found.headers[h] = v
			}
		}
		w.WriteHeader(status)
		return
	}
	if found == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Method == http.MethodHead {
		for h, v := range found.headers {
			w.Header().Set(h, v)
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	list := []any{}
	for _, n := range slices.Sorted(maps.Keys(found.objects)) {
		o := found.objects[n]
		if o.gone(now) || !strings.HasPrefix(n, q.Get("prefix")) || n <= q.Get("marker") && q.Get("marker") != "" || len(list) >= limit {
			continue
		}
		list = append(list, map[string]any{
			"name": n, "bytes": a.size(o), "hash": o.tag, "content_type": o.headers["Content-Type"], "last_modified": o.modified.Format("2006-01-02T15:04:05.000000"),
		})
	}
	answer(w, http.StatusOK, list)
}

func (o *object) gone(now time.Time) bool { return !o.expires.IsZero() && !now.Before(o.expires) }

func (a *account) piece(path string) *object {
	name, object, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if c := a.containers[name]; c != nil {
		return c.objects[object]
	}
	return nil
}

func (a *account) size(o *object) int {
	n := len(o.data)
	for _, path := range o.pieces {
		if p := a.piece(path); p != nil {
			n += len(p.data)
		}
	}
	return n
}

// objectCall is a request about an object.
type objectCall struct {
	cloud     *Cloud
	account   *account
	container *container
	name      string
	w         http.ResponseWriter
	r         *http.Request
	now       time.Time
}

func (c *objectCall) serve() {
	o := c.container.objects[c.name]
	if o != nil && o.gone(c.now) {
		o = nil
	}
	switch {
	case c.r.Method == http.MethodPut:
		c.put(o)
	case o == nil:
		c.w.WriteHeader(http.StatusNotFound)
	case c.r.Method == http.MethodPost:
		o.setExpiry(c.r, c.now)
		c.w.WriteHeader(http.StatusAccepted)
	case c.r.Method == http.MethodDelete:
		delete(c.container.objects, c.name)
		c.w.WriteHeader(http.StatusNoContent)
	case c.r.URL.Query().Get("multipart-manifest") == "get":
		var list []any
		for _, p := range o.pieces {
			list = append(list, map[string]any{"name": p})
		}
		answer(c.w, http.StatusOK, list)
	default:
		c.get(o)
	}
}

func (o *object) setExpiry(r *http.Request, now time.Time) {
	if after, err := strconv.Atoi(r.Header.Get("X-Delete-After")); err == nil {
		o.expires = now.Add(time.Duration(after) * time.Second)
	}
	if r.Header.Get("X-Remove-Delete-At") != "" {
		o.expires = time.Time{}
	}
}

func tagOf(data []byte) string {
	sum := md5.Sum(data) //nolint:gosec // what Swift compares with
	return hex.EncodeToString(sum[:])
}

func (c *objectCall) put(there *object) {
	once := c.r.Header.Get("If-None-Match") == "*"
	switch {
	case once && c.r.Header.Get("X-Copy-From") != "": // it is held against what is copied
		c.w.WriteHeader(http.StatusNotModified)
		return
	case once && there != nil:
		c.w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	data, _ := io.ReadAll(c.r.Body)
	o := &object{headers: map[string]string{}, modified: c.now}
	o.setExpiry(c.r, c.now)
	for h := range c.r.Header {
		if h == "Content-Type" || strings.HasPrefix(h, "X-Object-Meta-") {
			o.headers[h] = c.r.Header.Get(h)
		}
	}
	status := 0
	if from := c.r.Header.Get("X-Copy-From"); from != "" {
		data, status = c.copied(from, o)
	} else if c.r.URL.Query().Get("multipart-manifest") == "put" {
		o.pieces, status = c.manifest(data)
		data = nil
	}
	o.data, o.tag = data, tagOf(data)
	if want := strings.Trim(c.r.Header.Get("Etag"), `"`); status == 0 && want != "" && want != o.tag {
		status = http.StatusUnprocessableEntity
	}
	if status == 0 && c.tooMuch(o) {
		status = http.StatusRequestEntityTooLarge
	}
	if size := metaSize(o.headers); status == 0 && size > 4096 {
		status = http.StatusBadRequest
	}
	if status != 0 {
		c.w.WriteHeader(status)
		return
	}
	c.container.objects[c.name] = o
	c.w.Header().Set("Etag", o.tag)
	c.w.Header().Set("Last-Modified", rounded(o.modified).Format(http.TimeFormat))
	c.w.WriteHeader(http.StatusCreated)
}

// metaSize is what Swift bounds: more than it takes is too much.
func metaSize(headers map[string]string) int {
	n := 0
	for h, v := range headers {
		if key, ok := strings.CutPrefix(h, "X-Object-Meta-"); ok {
			if n += len(key) + len(v); len(v) > 256 || len(key) > 128 {
				return 1 << 20
			}
		}
	}
	return n
}

func rounded(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second).UTC()
	}
	return t.UTC()
}

func (c *objectCall) tooMuch(o *object) bool {
	if c.account.quota == 0 {
		return false
	}
	used := len(o.data)
	for _, each := range c.account.containers {
		for _, there := range each.objects {
			used += len(there.data)
		}
	}
	return used > c.account.quota
}

func (c *objectCall) copied(from string, o *object) ([]byte, int) {
	path, err := url.PathUnescape(from)
	if err != nil {
		return nil, http.StatusPreconditionFailed
	}
	source := c.account.piece(path)
	if source == nil {
		return nil, http.StatusNotFound
	}
	if c.r.Header.Get("X-Fresh-Metadata") == "" {
		o.expires = source.expires
	}
	return source.data, 0
}

func (c *objectCall) manifest(data []byte) (pieces []string, status int) {
	var list []struct {
		Path string `json:"path"`
		Tag  string `json:"etag"`
		Size int    `json:"size_bytes"`
	}
	if json.Unmarshal(data, &list) != nil || len(list) == 0 || len(list) > 1000 {
		return nil, http.StatusBadRequest
	}
	for _, each := range list {
		p := c.account.piece(each.Path)
		if p == nil || p.gone(c.now) || p.tag != each.Tag || len(p.data) != each.Size {
			return nil, http.StatusBadRequest
		}
		pieces = append(pieces, each.Path)
	}
	return pieces, 0
}

func (c *objectCall) get(o *object) {
	for h, v := range o.headers {
		c.w.Header().Set(h, v)
	}
	data := slices.Clone(o.data)
	var missing error
	for _, path := range o.pieces {
		if p := c.account.piece(path); p != nil && !p.gone(c.now) {
			data = append(data, p.data...)
		} else {
			missing = errors.Join(missing, fmt.Errorf("%s is gone", path))
		}
	}
	if len(o.pieces) > 0 {
		c.w.Header().Set("X-Static-Large-Object", "True")
	}
	c.w.Header().Set("Etag", o.tag)
	c.w.Header().Set("Last-Modified", rounded(o.modified).Format(http.TimeFormat))
	if missing != nil {
		c.w.WriteHeader(http.StatusConflict)
		return
	}
	if asked := c.r.Header.Get("Range"); asked != "" && len(data) == 0 {
		c.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	http.ServeContent(c.w, c.r, "", time.Time{}, bytes.NewReader(data))
}

package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// The traps are those of the list that an API compatible with Trove's has to mind, by number; traps that belong to one kind of resource are tested with it.

// TestTrap1SuccessCodesOfInstances: gophercloud takes 200 alone for the creates, 202 comes without a body, and the root is disabled with 204.
func TestTrap1SuccessCodesOfInstances(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.must(t, http.StatusOK, "member", http.MethodPost, "/instances", minimalCreate, nil)
	id := w.built(t)
	path := "/instances/" + id
	for _, c := range []struct {
		method, path, body string
		status             int
		empty              bool
	}{
		{http.MethodPost, path + "/root", "", 200, false},
		{http.MethodGet, path + "/root", "", 200, false},
		{http.MethodDelete, path + "/root", "", 204, true},
		{http.MethodPost, path + "/databases", `{"databases":[{"name":"shop"}]}`, 202, true},
		{http.MethodPost, path + "/users", `{"users":[{"name":"clerk","password":"pw-of-clerk"}]}`, 202, true},
		{http.MethodPut, path + "/users/clerk/databases", `{"databases":[{"name":"shop"}]}`, 202, true},
		{http.MethodDelete, path + "/users/clerk", "", 202, true},
		{http.MethodDelete, path + "/databases/shop", "", 202, true},
		{http.MethodPut, path, `{"instance":{"name":"put"}}`, 202, true},
		{http.MethodPatch, path, `{"instance":{"name":"patched"}}`, 202, true},
		{http.MethodPost, path + "/action", `{"restart":{}}`, 202, true},
		{http.MethodDelete, path, "", 202, true},
	} {
		rec := w.must(t, c.status, "member", c.method, c.path, c.body, nil)
		if c.empty != (rec.Body.Len() == 0) {
			t.Errorf("%s %s: the body is %q", c.method, c.path, rec.Body)
		}
	}
}

// TestTrap2TimesHaveNoZone: gophercloud fails over a zone or a fraction.
func TestTrap2TimesHaveNoZone(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.change(t, id, func(i *trove.Instance) { i.Fault = &trove.Fault{Message: "no", Created: w.clock.Now()} })
	group := w.newGroup(t, `{}`)
	key, value := regexp.MustCompile(`"(created|updated|service_status_updated)":"([^"]*)"`), regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`)
	for path, least := range map[string]int{
		"/instances/" + id: 3, "/instances/detail": 2, "/configurations/" + group: 2, "/configurations": 2,
	} {
		found := key.FindAllStringSubmatch(w.must(t, http.StatusOK, "member", http.MethodGet, path, "", nil).Body.String(), -1)
		if len(found) < least {
			t.Errorf("%s has %d times, want at least %d", path, len(found), least)
		}
		for _, m := range found {
			if !value.MatchString(m[2]) {
				t.Errorf("%s: %s is %q", path, m[1], m[2])
			}
		}
	}
}

// TestTrap3StatusChangesBeforeTheAnswer: tempest and Horizon look at once, and take an old status for the end of the task.
func TestTrap3StatusChangesBeforeTheAnswer(t *testing.T) {
	for body, want := range map[string]string{
		`{"restart":{}}`: "REBOOT", `{"resize":{"volume":{"size":9}}}`: "RESIZE", `{"resize":{"flavorRef":"3"}}`: "RESIZE", "": "SHUTDOWN",
	} {
		w := newWorld(t, nil, nil)
		id := w.built(t)
		if body == "" {
			w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id, "", nil)
		} else {
			w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", body, nil)
		}
		var one wire.InstanceBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &one)
		var list wire.InstanceList
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances", "", &list)
		if one.Instance.Status != want || one.Instance.OperatingStatus != "" || list.Instances[0].Status != want || list.Instances[0].OperatingStatus != "" {
			t.Errorf("%s: %s %q, in the list %s %q", body, one.Instance.Status, one.Instance.OperatingStatus, list.Instances[0].Status, list.Instances[0].OperatingStatus)
		}
	}
}

// TestTrap4RootAndAccessAreSynchronous: tests read what they changed right after the answer.
func TestTrap4RootAndAccessAreSynchronous(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	path := "/instances/" + id
	enabled := func() (body map[string]bool) {
		w.must(t, http.StatusOK, "member", http.MethodGet, path+"/root", "", &body)
		return body
	}
	w.must(t, http.StatusOK, "member", http.MethodPost, path+"/root", "", nil)
	if !enabled()["rootEnabled"] {
		t.Error("root was enabled and is not shown so")
	}
	w.must(t, http.StatusNoContent, "member", http.MethodDelete, path+"/root", "", nil)
	if enabled()["rootEnabled"] {
		t.Error("root was disabled and is not shown so")
	}
	w.must(t, http.StatusAccepted, "member", http.MethodPost, path+"/databases", `{"databases":[{"name":"shop"}]}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodPost, path+"/users", `{"users":[{"name":"clerk","password":"pw-of-clerk"}]}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodPut, path+"/users/clerk/databases", `{"databases":[{"name":"shop"}]}`, nil)
	access := func() string {
		return strings.TrimSpace(w.must(t, http.StatusOK, "member", http.MethodGet, path+"/users/clerk/databases", "", nil).Body.String())
	}
	if got := access(); got != `{"databases":[{"name":"shop"}]}` {
		t.Errorf("after the grant: %s", got)
	}
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, path+"/users/clerk/databases/shop", "", nil)
	if got := access(); got != `{"databases":[]}` {
		t.Errorf("after the revocation: %s", got)
	}
}

// TestTrap5TheFlavorOfAnInstanceIsAString, and among flavors id is a number and str_id the string.
func TestTrap5TheFlavorOfAnInstanceIsAString(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for _, path := range []string{"/instances/" + id, "/instances", "/instances/detail"} {
		if body := w.must(t, http.StatusOK, "member", http.MethodGet, path, "", nil).Body.String(); !strings.Contains(body, `"flavor":{"id":"2",`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	w.config.Catalog.(*fakeCatalog).flavors[0].ID = "tiny"
	body := w.must(t, http.StatusOK, "member", http.MethodGet, "/flavors", "", nil).Body.String()
	for _, want := range []string{`"id":2,"str_id":"2"`, `"id":null,"str_id":"tiny"`} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not in %s", want, body)
		}
	}
}

// TestTrap6AddressesAreShownTwice: terraform reads addresses, the command line ip.
func TestTrap6AddressesAreShownTwice(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for _, path := range []string{"/instances/" + id, "/instances", "/instances/detail"} {
		body := w.must(t, http.StatusOK, "member", http.MethodGet, path, "", nil).Body.String()
		if !strings.Contains(body, `"ip":["10.0.0.10"]`) || !strings.Contains(body, `"addresses":[{"address":"10.0.0.10","type":"private"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// TestTrap7BothKeysOfPages: Trove has links, gophercloud reads the other one; neither is there on the last page.
func TestTrap7BothKeysOfPages(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	w.built(t)
	w.guests.databases[id] = []string{"a", "b"}
	w.guests.users[id] = []trove.User{{Name: "a", Host: "%"}, {Name: "b", Host: "%"}}
	w.newGroup(t, `{}`)
	w.newGroup(t, `{}`)
	for path, key := range map[string]string{
		"/instances": "instances_links", "/instances/" + id + "/databases": "databases_links", "/instances/" + id + "/users": "users_links",
		"/configurations": "configurations_links",
	} {
		var first, all map[string]json.RawMessage
		w.must(t, http.StatusOK, "member", http.MethodGet, path+"?limit=1", "", &first)
		w.must(t, http.StatusOK, "member", http.MethodGet, path+"?limit=2", "", &all)
		if links := string(first["links"]); !strings.Contains(links, `"rel":"next"`) || links != string(first[key]) {
			t.Errorf("%s: links %s, %s %s", path, links, key, first[key])
		}
		if all["links"] != nil || all[key] != nil {
			t.Errorf("%s: on the last page links %s, %s %s", path, all["links"], key, all[key])
		}
	}
}

// TestTrap8WhatIsNotThereHasNoKey: clients look for keys, and take replica_of: null for a replica.
func TestTrap8WhatIsNotThereHasNoKey(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, _ := w.create(t)
	var one struct{ Instance map[string]json.RawMessage }
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &one)
	for _, key := range []string{"ip", "addresses", "replica_of", "replicas", "configuration", "fault", "hostname", "locality", "cluster_id", "shard_id"} {
		if value, there := one.Instance[key]; there {
			t.Errorf("%s is %s", key, value)
		}
	}
	if access := string(one.Instance["access"]); !strings.HasPrefix(access, "{") {
		t.Errorf("access is %s and not an object", access)
	}
}

// TestTrap9ReplicaOfDetachesWhateverItsValue: the instance is none, and each value is answered as a detach is.
func TestTrap9ReplicaOfDetachesWhateverItsValue(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for _, value := range []string{`null`, `""`, `"` + labID + `"`} {
		if text := w.refused(t, http.StatusBadRequest, "member", http.MethodPut, "/instances/"+id, `{"instance":{"replica_of":`+value+`}}`); !strings.Contains(text, "not a replica") {
			t.Errorf("%s: %s", value, text)
		}
	}
	text := w.refused(t, http.StatusBadRequest, "member", http.MethodPut, "/instances/"+id, `{"instance":{"replica_of":null,"configuration":null}}`)
	if text != "Only one attribute (except 'name') is allowed to update." {
		t.Errorf("two attributes at once: %s", text)
	}
}

// TestTrap10RootIsEnabledWithoutABody: python-troveclient and gophercloud send none, tempest an empty object.
func TestTrap10RootIsEnabledWithoutABody(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for _, body := range []string{"", "{}"} {
		var out struct {
			User struct{ Name, Password string }
		}
		w.must(t, http.StatusOK, "member", http.MethodPost, "/instances/"+id+"/root", body, &out)
		if out.User.Name != "root" || out.User.Password == "" {
			t.Errorf("%q: the user is %q", body, out.User.Name)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1.0/"+project+"/instances", strings.NewReader(minimalCreate))
	r.Header.Set("X-Auth-Token", "member") // and no Content-Type
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a body without a type: %d %s", rec.Code, rec.Body)
	}
}

// TestTrap12UnknownFlavorsAndVersionsAre400: Trove's table of errors has no row for them; for a datastore it has one. What a guest refuses is 400 too.
func TestTrap12UnknownFlavorsAndVersionsAre400(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for name, body := range map[string]string{
		"flavor":  `{"instance":{"name":"db","flavorRef":"99","volume":{"size":1}}}`,
		"version": `{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"datastore":{"type":"mysql","version":"4"}}}`,
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, http.StatusBadRequest, "member", http.MethodPost, "/instances", body) })
	}
	w.refused(t, http.StatusNotFound, "member", http.MethodPost, "/instances",
		`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"datastore":{"type":"oracle"}}}`)
	group := w.newGroup(t, `{}`)
	w.guests.refuse[id] = trove.Errorf(trove.KindBadRequest, "The database refuses it.")
	if text := w.attach(t, http.StatusBadRequest, id, group); text != "The database refuses it." {
		t.Errorf("what a guest refuses: %q", text)
	}
}

// TestTrap13QuotaAndVolumeSize: both are 413.
func TestTrap13QuotaAndVolumeSize(t *testing.T) {
	w := newWorld(t, map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: -1, trove.QuotaVolumes: -1}, nil)
	large := strings.Replace(minimalCreate, `"size":3`, `"size":`+strconv.Itoa(w.config.MaxVolumeSize+1), 1)
	if text := w.refused(t, http.StatusRequestEntityTooLarge, "member", http.MethodPost, "/instances", large); !strings.Contains(text, "olume") {
		t.Errorf("a volume that is too large: %s", text)
	}
	id := w.built(t)
	if text := w.refused(t, http.StatusRequestEntityTooLarge, "member", http.MethodPost, "/instances", minimalCreate); text != "Quota exceeded for resources: ['instances']." {
		t.Errorf("one instance too many: %s", text)
	}
	resize := `{"resize":{"volume":{"size":` + strconv.Itoa(w.config.MaxVolumeSize+1) + `}}}`
	w.refused(t, http.StatusRequestEntityTooLarge, "member", http.MethodPost, "/instances/"+id+"/action", resize)
}

// TestTrap16NamesWithDotsAndPercents: clients encode a dot, and a percent twice; Trove's router takes what follows a dot for a format.
func TestTrap16NamesWithDotsAndPercents(t *testing.T) {
	w := newWorld(t, nil, nil)
	id := w.built(t)
	for path, name := range map[string]string{
		"a%2eb": "a.b", "a%2Eb": "a.b", "a.b": "a.b", "report.json": "report.json", "p%2525q": "p%q", "a%2eb%40%2525": "a.b",
	} {
		w.guests.users[id] = []trove.User{{Name: "a.b", Host: "%"}, {Name: "report.json", Host: "%"}, {Name: "p%q", Host: "%"}, {Name: "report", Host: "%"}}
		var out wire.UserBody
		w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/users/"+path, "", &out)
		if out.User.Name != name {
			t.Errorf("%s shows %q, want %q", path, out.User.Name, name)
		}
		w.must(t, http.StatusAccepted, "member", http.MethodDelete, "/instances/"+id+"/users/"+path, "", nil)
		if left := w.guests.users[id]; len(left) != 3 || slices.ContainsFunc(left, func(u trove.User) bool { return u.Name == name }) {
			t.Errorf("after DELETE %s there are %v", path, left)
		}
	}
}

// TestTrap17InstancesOfOtherProjectsAreBelowMgmt: an administrator's list is of his own project.
func TestTrap17InstancesOfOtherProjectsAreBelowMgmt(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.built(t)
	for path, want := range map[string]int{"/instances": 0, "/instances/detail": 0, "/mgmt/instances": 1} {
		var list struct{ Instances []json.RawMessage }
		w.must(t, http.StatusOK, "admin_other", http.MethodGet, path, "", &list)
		if len(list.Instances) != want {
			t.Errorf("%s lists %d, want %d", path, len(list.Instances), want)
		}
	}
}

// TestTrap18VersionsTellAdministratorsMore: whether they are active, and their image and packages.
func TestTrap18VersionsTellAdministratorsMore(t *testing.T) {
	w := newWorld(t, nil, nil)
	const path = "/datastores/mysql/versions/5.7.29"
	for token, want := range map[string]bool{"member": false, "admin": true} {
		var one struct{ Version map[string]json.RawMessage }
		w.must(t, http.StatusOK, token, http.MethodGet, path, "", &one)
		for _, key := range []string{"active", "image", "packages"} {
			if _, there := one.Version[key]; there != want {
				t.Errorf("%s of a version, shown to %s: %t, want %t", key, token, there, want)
			}
		}
	}
	for _, path := range []string{"/datastores", "/datastores/mysql", "/datastores/mysql/versions"} {
		body := w.must(t, http.StatusOK, "member", http.MethodGet, path, "", nil).Body.String()
		if strings.Contains(body, `"image"`) || strings.Contains(body, `"active"`) || strings.Contains(body, imageID) {
			t.Errorf("%s tells a member: %s", path, body)
		}
	}
}

// TestTrap19ForceDelete: it is a reset of the status and a delete. The reset is an administrator's; with force_delete it is the owner's.
func TestTrap19ForceDelete(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, _ := w.create(t)
	path := "/instances/" + id
	w.refused(t, http.StatusUnprocessableEntity, "member", http.MethodDelete, path, "") // it is built
	w.refused(t, http.StatusForbidden, "member", http.MethodPost, path+"/action", `{"reset_status":{}}`)
	w.must(t, http.StatusAccepted, "member", http.MethodPost, path+"/action", `{"reset_status":{"force_delete":1}}`, nil)
	w.must(t, http.StatusAccepted, "member", http.MethodDelete, path, "", nil)
	if i := w.instance(t, id); i.Task != trove.TaskDeleting {
		t.Errorf("the task is %v", i.Task)
	}
}

package bootstrap_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/config"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func none(string) string { return "" }

func TestAdministratorsLoginFromEachSource(t *testing.T) {
	rc := write(t, "openrc", "# of the cloud\nexport OS_AUTH_URL=http://k:5000/v3 OS_REGION_NAME=\"R 1\"\nOS_USERNAME='the admin'; export OS_PASSWORD=\"p w'd\" # secret\n"+
		"export OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default PATH=$PATH\n")
	clouds := write(t, "clouds.yaml", "clouds:\n  mine:\n    region_name: R 1\n    auth: {auth_url: 'http://k:5000/v3', username: the admin, password: \"p w'd\", project_name: admin, user_domain_id: default}\n")
	env := map[string]string{
		"OS_AUTH_URL": "http://k:5000/v3", "OS_USERNAME": "the admin", "OS_PASSWORD": "p w'd", "OS_PROJECT_NAME": "admin", "OS_USER_DOMAIN_NAME": "Default",
		"OS_REGION_NAME": "R 1", "OS_INTERFACE": "publicURL",
	}
	cloud := func(name string) string { return map[string]string{"OS_CLIENT_CONFIG_FILE": clouds}[name] }
	for name, s := range map[string]bootstrap.Source{
		"a file":      {Getenv: none, RC: rc},
		"clouds.yaml": {Getenv: cloud, Cloud: "mine"},
		"clouds.yaml by name": {Getenv: func(n string) string {
			return map[string]string{"OS_CLIENT_CONFIG_FILE": clouds, "OS_CLOUD": "mine"}[n]
		}},
		"variables": {Getenv: func(n string) string { return env[n] }},
	} {
		c, err := bootstrap.Admin(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		password, err := c.Password()
		if c.AuthURL != "http://k:5000/v3" || c.Username != "the admin" || password != "p w'd" || c.Project != "admin" || c.UserDomain != "Default" && c.UserDomainID != "default" || c.Region != "R 1" ||
			c.Interface != "public" || err != nil {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

// TestAnAdministratorOfADomainThatIsToldByItsIDLogsInToAnotherDomain: Keystone is asked for the domains that the login names, by id or by name.
func TestAnAdministratorOfADomainThatIsToldByItsIDLogsInToAnotherDomain(t *testing.T) {
	type domain struct{ ID, Name string }
	var asked struct {
		Auth struct {
			Identity struct {
				Password struct{ User struct{ Domain domain } }
			}
			Scope struct{ Project struct{ Domain domain } }
		}
	}
	keystone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Subject-Token", "t")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"token": {"user": {"id": "u"}, "project": {"id": "p"}, "catalog": []}}`))
	}))
	defer keystone.Close()
	login := "OS_AUTH_URL=" + keystone.URL + " OS_USERNAME=a OS_PASSWORD=p OS_PROJECT_NAME=admin "
	clouds := write(t, "clouds.yaml", "clouds:\n  mine:\n    auth: {auth_url: '"+keystone.URL+"', username: a, password: p, project_name: admin, user_domain_id: d-1, project_domain_id: d-2}\n")
	for name, c := range map[string]struct {
		source        bootstrap.Source
		user, project domain
	}{
		"ids":        {bootstrap.Source{Getenv: none, RC: write(t, "rc", login+"OS_USER_DOMAIN_ID=d-1 OS_PROJECT_DOMAIN_ID=d-2\n")}, domain{ID: "d-1"}, domain{ID: "d-2"}},
		"of a cloud": {bootstrap.Source{Getenv: func(n string) string { return map[string]string{"OS_CLIENT_CONFIG_FILE": clouds}[n] }, Cloud: "mine"}, domain{ID: "d-1"}, domain{ID: "d-2"}},
		"an id and a name": {
			bootstrap.Source{Getenv: none, RC: write(t, "rc", login+"OS_USER_DOMAIN_ID=d-1 OS_PROJECT_DOMAIN_NAME=two\n")}, domain{ID: "d-1"}, domain{Name: "two"},
		},
		"both of one": {
			bootstrap.Source{Getenv: none, RC: write(t, "rc", login+"OS_USER_DOMAIN_ID=d-1 OS_USER_DOMAIN_NAME=one\n")}, domain{ID: "d-1"}, domain{Name: "Default"},
		},
		"nothing": {bootstrap.Source{Getenv: none, RC: write(t, "rc", login+"\n")}, domain{Name: "Default"}, domain{Name: "Default"}},
	} {
		admin, err := bootstrap.Admin(c.source)
		if err != nil {
			t.Fatal(name, err)
		}
		admin.Log = slog.New(slog.DiscardHandler)
		asked.Auth.Identity.Password.User.Domain, asked.Auth.Scope.Project.Domain = domain{}, domain{}
		s, err := osclient.New(t.Context(), admin)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = s.Close()
		if user, project := asked.Auth.Identity.Password.User.Domain, asked.Auth.Scope.Project.Domain; user != c.user || project != c.project {
			t.Errorf("%s: the user is looked for in %+v and the project in %+v", name, user, project)
		}
	}
}

func TestSecureYAMLHasThePassword(t *testing.T) {
	clouds := write(t, "clouds.yaml", "clouds:\n  mine:\n    auth: {auth_url: 'http://k/v3', username: a, project_name: admin}\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(clouds), "secure.yaml"), []byte("clouds:\n  mine:\n    auth: {password: hidden}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := bootstrap.Admin(bootstrap.Source{Getenv: func(n string) string { return map[string]string{"OS_CLIENT_CONFIG_FILE": clouds}[n] }, Cloud: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if password, err := c.Password(); password != "hidden" || err != nil {
		t.Errorf("the password is not that of secure.yaml: %v", err)
	}
}

func TestLoginThatIsNotWholeIsRefusedWithoutTellingIt(t *testing.T) {
	for name, s := range map[string]bootstrap.Source{
		"nothing":         {Getenv: none},
		"no such file":    {Getenv: none, RC: "/nowhere/openrc"},
		"two sources":     {Getenv: none, RC: "a", Cloud: "b"},
		"no such cloud":   {Getenv: none, Cloud: "mine"},
		"without project": {Getenv: none, RC: write(t, "rc", "export OS_AUTH_URL=u OS_USERNAME=n OS_PASSWORD=hidden\n")},
		"a computed one":  {Getenv: none, RC: write(t, "rc", "read -sr OS_PASSWORD_INPUT\nexport OS_PASSWORD=$OS_PASSWORD_INPUT\n")},
	} {
		if _, err := bootstrap.Admin(s); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettingsAreAConfigurationThatTheServiceTakes(t *testing.T) {
	w, f := wanted(), found()
	w.AuthURL = "http://k:5000/v3"
	text, err := bootstrap.WithSettings([]byte("# ours\nregion: here # do not touch\nlog:\n  level: warn\nbus:\n"), bootstrap.Settings(w, f)[2:])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# ours", "region: here # do not touch", "level: warn"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is gone from:\n%s", want, text)
		}
	}
	whole := string(text) + "cloud: openstack\n"
	c, err := config.Load(write(t, "trove.yaml", whole), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, whole)
	}
	if c.Bus.Address != "10.9.0.2" || c.OpenStack.ManagementNetwork != "m" || c.Identity.Driver != config.IdentityKeystone || c.Region != "here" {
		t.Errorf("%+v", c)
	}
	if _, err := bootstrap.WithSettings([]byte("bus: 7\n"), bootstrap.Settings(w, f)); err == nil {
		t.Error("a file with something else than a section was taken")
	}
}

func TestImageWithoutWhatBelongsToItIsRefused(t *testing.T) {
	path := write(t, "a.qcow2", "x")
	if _, err := bootstrap.ReadImageFile(path); err == nil || !strings.Contains(err.Error(), "a.qcow2.json") {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"{", "{}", `{"id": "i", "datastore": "d", "version": "1", "manager": "m", "format": "qcow2"}`} {
		if err := os.WriteFile(path+".json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bootstrap.ReadImageFile(path); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
	text := `{"id": "i", "datastore": "d", "version": "1", "manager": "m", "format": "qcow2", "min_disk": 4, "sha256": "00", "properties": {"os_type": "linux"}}`
	if err := os.WriteFile(path+".json", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if i, err := bootstrap.ReadImageFile(path); err != nil || i.Manifest.Manager != "m" || i.MinDisk != 4 || i.Properties["os_type"] != "linux" {
		t.Errorf("%+v %v", i, err)
	}
}

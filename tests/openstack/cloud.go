// Package openstack tests the service on a real OpenStack: the lab of the folder lab, which scripts/openstack.sh brings up. What is not a test here is
// the view from outside that the tests judge by: each service's own inventory, and a client machine on the tenant's network.
//
// It speaks to the services in plain HTTP, not through the library that the driver uses: what both had wrong would not be seen.
package openstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// Cloud is the lab as its administrator sees it. It may be used from several goroutines.
type Cloud struct {
	State     string // the lab's directory
	keystone  string
	http      *http.Client
	admin     map[string]access // by project
	endpoints map[string]string // by type
}

// access is a token with what its holder needs to know.
type access struct {
	token   trove.Secret
	project string // id
}

// Projects are those whose objects and secrets are part of the inventory: the service's, and the tenants of the lab.
var Projects = []string{"service", "demo", "other"}

// Open logs in to the lab in that directory.
func Open(ctx context.Context, state string) (*Cloud, error) {
	rc, err := ReadRC(filepath.Join(state, "adminrc"))
	if err != nil {
		return nil, fmt.Errorf("%w; tests/openstack/lab/lab up makes the lab", err)
	}
	c := &Cloud{State: state, keystone: rc["OS_AUTH_URL"], http: &http.Client{Timeout: time.Minute}, admin: map[string]access{}, endpoints: map[string]string{}}
	for _, project := range append([]string{"admin"}, Projects...) {
		if c.admin[project], err = c.login(ctx, rc["OS_USERNAME"], trove.Secret(rc["OS_PASSWORD"]), project); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ReadRC reads the variables of a file that a shell would load.
func ReadRC(name string) (map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	variables := map[string]string{}
	for line := range strings.Lines(string(data)) {
		words, exports := strings.CutPrefix(strings.TrimSpace(line), "export ")
		if !exports {
			continue
		}
		for word := range strings.FieldsSeq(words) {
			if name, value, ok := strings.Cut(word, "="); ok {
				variables[name] = value
			}
		}
	}
	return variables, nil
}

// login gets a token and learns the endpoints from the catalogue that comes with it.
func (c *Cloud) login(ctx context.Context, user string, password trove.Secret, project string) (access, error) {
	type named map[string]any
	domain := named{"name": "Default"}
	request, err := json.Marshal(named{"auth": named{
		"identity": named{"methods": []string{"password"}, "password": named{"user": named{"name": user, "domain": domain, "password": password.Reveal()}}},
		"scope":    named{"project": named{"name": project, "domain": domain}},
	}})
	if err != nil {
		return access{}, err
	}
	var answer struct {
		Token struct {
			Project struct{ ID string }
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, URL string }
			}
		}
	}
	header, err := c.do(ctx, http.MethodPost, c.keystone+"/auth/tokens", nil, request, &answer)
	if err != nil {
		return access{}, fmt.Errorf("log in as %s of %s: %w", user, project, err)
	}
	for _, s := range answer.Token.Catalog {
		for _, e := range s.Endpoints {
			if e.Interface == "public" {
				c.endpoints[s.Type+"/"+project] = e.URL
			}
		}
	}
	return access{trove.Secret(header.Get("X-Subject-Token")), answer.Token.Project.ID}, nil
}

// get asks a service as the administrator of a project.
func (c *Cloud) get(ctx context.Context, project, service, path string, into any) error {
	return c.ask(ctx, http.MethodGet, project, service, path, nil, into)
}

func (c *Cloud) ask(ctx context.Context, method, project, service, path string, body, into any) error {
	endpoint := c.endpoints[service+"/"+project]
	if endpoint == "" {
		return fmt.Errorf("the catalogue has no service %q", service)
	}
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	header := http.Header{"X-Auth-Token": {c.admin[project].token.Reveal()}}
	switch service {
	case "compute":
		header.Set("OpenStack-API-Version", "compute 2.60")
	case "block-storage":
		header.Set("OpenStack-API-Version", "volume 3.60")
	}
	_, err := c.do(ctx, method, strings.TrimSuffix(endpoint, "/")+path, header, data, into)
	return err
}

// errNotThere is the answer 404.
var errNotThere = errors.New("it is not there")

// do makes a request. An answer that is no success is an error; one without content leaves into as it is.
func (c *Cloud) do(ctx context.Context, method, url string, header http.Header, body []byte, into any) (http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, header)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %s %s: %.300s", errNotThere, method, url, data)
	}
	if answer.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, url, answer.Status, data)
	}
	if into == nil || len(data) == 0 {
		return answer.Header, nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %.300s", method, url, err, data)
	}
	return answer.Header, nil
}

// Server is what Nova says of a server.
type Server struct {
	ID, Name, Status string
	TaskState        string `json:"OS-EXT-STS:task_state"`
	Flavor           struct {
		Name string `json:"original_name"`
		RAM  int
	}
	Image struct{ ID string }
	Fault struct{ Message string }
}

// Servers returns the servers whose names begin so, which another project than the caller's may own.
func (c *Cloud) Servers(ctx context.Context, prefix string) ([]Server, error) {
	var answer struct{ Servers []Server }
	err := c.get(ctx, "admin", "compute", "/servers/detail?all_tenants=1&name="+url.QueryEscape("^"+regexp.QuoteMeta(prefix)), &answer)
	return answer.Servers, err
}

// UserData returns what a server was given at its last start from an image, in base64.
func (c *Cloud) UserData(ctx context.Context, server string) (string, error) {
	var answer struct {
		Server struct {
			Text string `json:"OS-EXT-SRV-ATTR:user_data"`
		}
	}
	err := c.get(ctx, "admin", "compute", "/servers/"+server, &answer)
	return answer.Server.Text, err
}

// Volume is what Cinder says of a volume.
type Volume struct {
	ID, Name, Status string
	Size             int
}

// Volumes returns the volumes of that name.
func (c *Cloud) Volumes(ctx context.Context, name string) ([]Volume, error) {
	var answer struct{ Volumes []Volume }
	err := c.get(ctx, "admin", "block-storage", "/volumes/detail?all_tenants=1&name="+url.QueryEscape(name), &answer)
	return answer.Volumes, err
}

// Console returns the end of what a server has written on its console.
func (c *Cloud) Console(ctx context.Context, server string) (string, error) {
	var answer struct{ Output string }
	request := map[string]any{"os-getConsoleOutput": map[string]any{"length": 200}}
	err := c.ask(ctx, http.MethodPost, "admin", "compute", "/servers/"+server+"/action", request, &answer)
	return answer.Output, err
}

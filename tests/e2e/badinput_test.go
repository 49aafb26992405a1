package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// call sends a body to the running API as the user of the openrc file and returns status and fault message.
func (d *deployment) call(ctx context.Context, method, path, body string) (int, string) {
	d.t.Helper()
	if _, err := d.client.Flavors(d.t.Context()); err != nil { // logs in
		d.t.Fatal(err)
	}
	project, err := d.client.ProjectID(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.listen+"/v1.0/"+project+path, bytes.NewBufferString(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", d.token())
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err.Error()
	}
	var faults map[string]struct{ Message string }
	if json.Unmarshal(data, &faults) == nil {
		for _, f := range faults {
			return resp.StatusCode, f.Message
		}
	}
	return resp.StatusCode, string(data)
}

func (d *deployment) token() string {
	d.t.Helper()
	body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"name":"Default"},"password":%q}}},"scope":{"project":{"name":%q,"domain":{"name":"Default"}}}}}`,
		d.getenv("OS_USERNAME"), d.getenv("OS_PASSWORD"), d.getenv("OS_PROJECT_NAME"))
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Post(d.getenv("OS_AUTH_URL")+"/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get("X-Subject-Token")
}

// TestBadInputNamesTheFieldAndLeavesNothing sends what users get wrong to the real service.
func TestBadInputNamesTheFieldAndLeavesNothing(t *testing.T) {
	d := sharedDeployment(t)
	before := d.trove("quota", "show", "-f", "value")
	entries := d.instanceDirs()
	for name, c := range map[string]struct {
		body   string
		status int
		want   string
	}{
		"no name":         {`{"instance":{"flavorRef":"1","volume":{"size":1}}}`, 400, "name"},
		"name of blanks":  {`{"instance":{"name":"  ","flavorRef":"1","volume":{"size":1}}}`, 400, "name"},
		"volume of 0":     {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":0}}}`, 400, "size"},
		"volume too big":  {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":100000}}}`, 413, "size"},
		"no flavor":       {`{"instance":{"name":"a","flavorRef":"999","volume":{"size":1}}}`, 400, "999"},
		"no version":      {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":1},"datastore":{"type":"mariadb","version":"1.0"}}}`, 400, "1.0"},
		"no datastore":    {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":1},"datastore":{"type":"oracle"}}}`, 404, "oracle"},
		"no public IP":    {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":1},"access":{"is_public":true}}}`, 400, "local.public_ports"},
		"bad CIDR":        {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":1},"access":{"allowed_cidrs":["10.0.0.0/99"]}}}`, 400, "allowed_cidrs"},
		"foreign network": {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":1},"nics":[{"network_id":"11111111-1111-4111-8111-111111111111"}]}}`, 404, "network_id"},
		"malformed":       {`{"instance":`, 400, "malformed"},
		"reserved user":   {`{"instance":{"name":"a","flavorRef":"1","volume":{"size":1},"users":[{"name":"root","password":"x"}]}}`, 400, "root"},
	} {
		if status, message := d.call(t.Context(), http.MethodPost, "/instances", c.body); status != c.status || !strings.Contains(message, c.want) {
			t.Errorf("%s: %d %q, want %d with %q", name, status, message, c.status, c.want)
		}
	}
	if status, message := d.call(t.Context(), http.MethodPost, "/instances", `{"instance":{"name":"`+strings.Repeat("x", 10<<20)+`"}}`); status != 413 && status != 400 {
		t.Errorf("10 MB: %d %.200q", status, message)
	}
	if after := d.trove("quota", "show", "-f", "value"); after != before {
		t.Errorf("the quota changed from\n%sto\n%s", before, after)
	}
	if now := d.instanceDirs(); now != entries {
		t.Errorf("left over: %s, before %s", now, entries)
	}
}

func (d *deployment) instanceDirs() string {
	entries, err := os.ReadDir(filepath.Join(d.state, "instances"))
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestATokenOfAnotherProjectIsRefused uses a valid token on a project that is not its own.
func TestATokenOfAnotherProjectIsRefused(t *testing.T) {
	d := sharedDeployment(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.listen+"/v1.0/0123456789abcdef0123456789abcdef/instances", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", d.token())
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestQuotaIsKept asks for more than there is.
func TestQuotaIsKept(t *testing.T) {
	d := sharedDeployment(t)
	project, err := d.client.ProjectID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	admin := *d
	admin.env = append([]string{}, d.env...)
	if err := admin.readOpenrc("openrc-admin"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.try("quota", "update", project, "instances", "0"); err == nil {
		t.Error("a member changed a quota")
	}
	admin.trove("quota", "update", project, "instances", "0")
	t.Cleanup(func() { admin.trove("quota", "update", project, "instances", "100") })
	status, message := d.call(t.Context(), http.MethodPost, "/instances", `{"instance":{"name":"a","flavorRef":"1","volume":{"size":1}}}`)
	if status != 413 || message != "Quota exceeded for resources: ['instances']." {
		t.Errorf("over quota: %d %q", status, message)
	}
}

package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/config"
)

func load(t *testing.T, text string, environ ...string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trove.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, environ)
}

func TestFileThenEnvironment(t *testing.T) {
	c, err := load(t, "api:\n  listen: 127.0.0.1:1\n  drain: 3s\nregion: north\n", "TROVE_API_LISTEN=127.0.0.1:2", "TROVE_QUOTA_RAM=7", "OTHER=1")
	if err != nil {
		t.Fatal(err)
	}
	if c.API.Listen != "127.0.0.1:2" || c.API.Drain != 3*time.Second || c.Region != "north" || c.Quota.RAM != 7 || c.Bus.Port != 4222 {
		t.Fatalf("got %+v", c)
	}
}

// keystone is a configuration that a test makes wrong by a line below it.
const keystone = "identity:\n  driver: keystone\n"

// openstack is the same for the cloud.
const openstack = keystone + "  auth_url: http://keystone:5000/v3\ncloud: openstack\nopenstack:\n  auth_url: http://keystone:5000/v3\n"

func TestErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct{ text, env, want string }{
		{"api:\n  lisen: x\n", "", `did you mean "listen"?`},
		{"api:\n  listen: nowhere\n", "", "api.listen"},
		{"api:\n  tls_certificate: /x\n", "", "api.tls_key"},
		{"api:\n  listeners:\n    - listen: nowhere\n", "", "api.listeners"},
		{"api:\n  listeners:\n    - listen: 127.0.0.1:8779\n", "", "is there twice"},
		{"", "TROVE_API_TRUSTED_PROXIES=[nowhere]", "api.trusted_proxies"},
		{"api:\n  healthcheck_disable_ports: [8779]\n", "", "api.healthcheck_disable_ports"},
		{"api:\n  cors:\n    allowed_origin: [horizon.example]\n", "", "api.cors.allowed_origin"},
		{"", "TROVE_API_WRITE_TIMEOUT=10ms", "api.write_timeout"},
		{"", "TROVE_API_RATE_POST=-2", "api.rate_post"},
		{"", "TROVE_API_PUBLIC_URL=db.example", "api.public_url"},
		{"", "TROVE_BUS_PORT=many", "TROVE_BUS_PORT"},
		{"bus:\n  port: 4223\n", "", "bus.enrol_port"},
		{"objects:\n  port: 4222\n", "", "objects.port"},
		{"", "TROVE_OBJECTS_GUEST_RATE=0", "objects.guest_rate"},
		{"objects:\n  store: s3\n", "", "objects.store"},
		{"objects:\n  store: swift\n", "", "objects.swift_accounts"},
		{"objects:\n  store: swift\n  swift_accounts: service\n", "", "openstack.auth_url"},
		{"objects:\n  store: swift\n  swift_accounts: both\n", "", "objects.swift_accounts"},
		{"objects:\n  store: swift\n  swift_accounts: service\n", "TROVE_OBJECTS_SWIFT_PREFIX=a/b", "objects.swift_prefix"},
		{"secrets:\n  master_key: vault\n", "", "secrets.master_key"},
		{"secrets:\n  master_key: 'barbican:'\n", "", "secrets.master_key"},
		{"secrets:\n  master_key: barbican:trove\n", "", "openstack.auth_url"},
		{"local:\n  tenant_cidr: 10.0.0.0/30\n", "", "local.tenant_cidr"},
		{"local:\n  overcommit: 0.5\n", "", "local.overcommit"},
		{"cloud: azure\n", "", "cloud: "},
		{"cloud: openstack\n", "", "identity.driver"},
		{openstack, "TROVE_OPENSTACK_AUTH_URL=keystone", "openstack.auth_url"},
		{openstack, "TROVE_OPENSTACK_INTERFACE=outer", "openstack.interface"},
		{openstack, "TROVE_OPENSTACK_BOOT_TIMEOUT=1ms", "openstack.boot_timeout"},
		{openstack, "TROVE_OPENSTACK_PROJECT=", "openstack.project"},
		{"local:\n  public_ports: 80-90\n", "", "local.public_ports"},
		{"local:\n  public_ports: 20000\n", "", "local.public_ports"},
		{"", "TROVE_LOCAL_PUBLIC_PORTS=8000-9000", "api.listen"},
		{"local:\n  public_addresses: [here]\n", "", "local.public_addresses"},
		{"", "TROVE_LOCAL_PUBLIC_CIDRS=[192.0.2.0/24, 198.51.100.0/24]", "second range"},
		{"local:\n  public_cidrs: [10.0.0.0/8]\n", "", "local.public_cidrs"},
		{"metrics:\n  listen: 0.0.0.0:9100\n", "", "metrics.listen"},
		{"store:\n  url: mysql://u@h/d\n", "", "store.url"},
		{"", "TROVE_STORE_URL=postgresql://u:hidden@h/d", "store.url: it holds a password"},
		{"store: {url: 'mariadb://u@h/d', password_file: here}\n", "", "store.password_file"},
		{"store: {url: 'mariadb://u@h/d', tls: maybe}\n", "", "store.tls"},
		{"store: {url: 'mariadb://u@h/d', tls_cert: /c}\n", "", "store.tls_key"},
		{"store: {url: 'mariadb://u@h/d', connections: 1}\n", "", "store.connections"},
		{"store: {url: 'mariadb://u@h/d', wait: 0s}\n", "", "store.wait"},
		{"", "TROVE_METRICS_LISTEN=9100", "metrics.listen"},
		{"local:\n  flavors: [{id: '1', name: a, ram: 512, vcpus: 1}, {id: '1', name: b, ram: 512, vcpus: 1}]\n", "", "local.flavors"},
		{"identity:\n  driver: ldap\n", "", "identity.driver"},
		{"", "TROVE_IDENTITY_DRIVER=keystone", "identity.auth_url"},
		{keystone + "  auth_url: keystone:5000\n", "", "identity.auth_url"},
		{keystone + "  public_auth_url: keystone:5000\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.public_auth_url"},
		{keystone + "  username: ''\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.username"},
		{keystone + "  password_file: ''\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.password_file"},
		{keystone + "  project: ''\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.project"},
		{keystone + "  interface: private\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.interface"},
		{keystone + "  cache_time: 2h\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.cache_time"},
		{keystone + "  cache_size: 0\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.cache_size"},
		{keystone + "  timeout: 10ms\n", "TROVE_IDENTITY_AUTH_URL=http://keystone:5000/v3", "identity.timeout"},
	} {
		_, err := load(t, c.text, c.env)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q %q: error %v, want one with %q", c.text, c.env, err, c.want)
		}
	}
}

func TestEveryKeyHasAText(t *testing.T) {
	c := config.Default()
	for _, k := range c.Keys() {
		if k.Doc == "" {
			t.Errorf("%s has no doc tag", k.Name)
		}
	}
}

func TestRatesByMethod(t *testing.T) {
	for text, want := range map[string]map[string]int{
		"":                                       {"GET": 200, "POST": 200, "PUT": 200, "DELETE": 200},
		"api:\n  rate_limit: 0\n":                {"GET": 0, "POST": 0, "PUT": 0, "DELETE": 0},
		"api:\n  rate_limit: 9\n  rate_get: 0\n": {"GET": 0, "POST": 9, "PUT": 9, "DELETE": 9},
		"api:\n  rate_delete: 3\n":               {"GET": 200, "POST": 200, "PUT": 200, "DELETE": 3},
	} {
		c, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.API.Rates(); !maps.Equal(got, want) {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestADefaultOfAQuotaIsToldAsThatOfARate: both have a -1, which means other things.
func TestADefaultOfAQuotaIsToldAsThatOfARate(t *testing.T) {
	for line := range strings.Lines(config.Reference()) {
		if strings.HasPrefix(line, "| `quota.ram`") && !strings.Contains(line, "| -1: no limit |") {
			t.Error(line)
		}
	}
}

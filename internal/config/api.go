package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// API configures trove-api.
type API struct {
	Listen        string        `yaml:"listen" doc:"Address and port that the REST API listens on."`
	PublicURL     string        `yaml:"public_url" doc:"scheme://host:port[/prefix] under which clients reach the API; empty: what they called it, as far as trusted proxies tell."`
	RateLimit     int           `yaml:"rate_limit" doc:"Requests a minute that a project may make, for each HTTP method; 0: no limit. Each process counts for itself."`
	RateGet       int           `yaml:"rate_get" doc:"The same for GET and HEAD; 0: no limit."`
	RatePost      int           `yaml:"rate_post" doc:"The same for POST; 0: no limit."`
	RatePut       int           `yaml:"rate_put" doc:"The same for PUT and PATCH; 0: no limit."`
	RateDelete    int           `yaml:"rate_delete" doc:"The same for DELETE; 0: no limit."`
	MaxVolumeSize int           `yaml:"max_volume_size" doc:"Largest data volume that can be asked for, in GiB."`
	PolicyFile    string        `yaml:"policy_file" doc:"policy.yaml with rules in place of the defaults; relative to the state directory."`
	Drain         time.Duration `yaml:"drain" doc:"How long running requests may take when the service stops."`

	TLSCertificate string     `yaml:"tls_certificate" doc:"PEM file with the certificate of api.listen and those that signed it; empty: no TLS. It is read again when it changes."`
	TLSKey         string     `yaml:"tls_key" doc:"PEM file with its key."`
	Listeners      []Listener `yaml:"listeners" doc:"Further addresses that the API listens on: listen, and for TLS tls_certificate and tls_key."`

	TrustedProxies []string `yaml:"trusted_proxies" doc:"Address ranges of proxies whose X-Forwarded-For, -Proto, -Host, -Prefix and Forwarded headers count; of others they are dropped."`

	HealthcheckDisable      string   `yaml:"healthcheck_disable_file" doc:"While this file is there, /healthcheck answers 503 DISABLED BY FILE; empty: none."`
	HealthcheckDisablePorts []string `yaml:"healthcheck_disable_ports" doc:"The same for one port each, as port:file."`

	MaxBody       int           `yaml:"max_body" doc:"Largest request body in bytes; of more the answer is 413."`
	MaxHeader     int           `yaml:"max_header" doc:"Bytes that the header of a request may have; of more the answer is 431."`
	HeaderTimeout time.Duration `yaml:"header_timeout" doc:"How long a client may take for the header of a request."`
	ReadTimeout   time.Duration `yaml:"read_timeout" doc:"How long it may take for header and body together."`
	WriteTimeout  time.Duration `yaml:"write_timeout" doc:"How long it may take to receive the next part of an answer. Waiting for an answer, as in a long poll, does not count."`
	IdleTimeout   time.Duration `yaml:"idle_timeout" doc:"How long a connection without requests is kept."`

	CORS  CORS  `yaml:"cors"`
	Audit Audit `yaml:"audit"`
}

// Listener is a further address of the API.
type Listener struct {
	Listen         string `yaml:"listen"`
	TLSCertificate string `yaml:"tls_certificate"`
	TLSKey         string `yaml:"tls_key"`
}

// CORS says which web pages of other origins may call the API from a browser, as oslo.middleware's section [cors].
type CORS struct {
	AllowedOrigin    []string `yaml:"allowed_origin" doc:"Origins (https://host:port) whose pages may call the API; \"*\": all, then without credentials; empty: none."`
	AllowCredentials bool     `yaml:"allow_credentials" doc:"Whether they may send cookies and the like along."`
	ExposeHeaders    []string `yaml:"expose_headers" doc:"Headers of answers that they may read."`
	MaxAge           int      `yaml:"max_age" doc:"Seconds for which a browser need not ask again."`
	AllowMethods     []string `yaml:"allow_methods" doc:"Methods that they may use."`
	AllowHeaders     []string `yaml:"allow_headers" doc:"Headers that they may send."`
}

// Audit says how long audit records are kept.
type Audit struct {
	Days int `yaml:"days" doc:"Days that audit records are kept; 0: for ever."`
	Keep int `yaml:"keep" doc:"So many audit records are kept at most, the newest; 0: any number."`
}

// RateDefault stands where a method has no limit of its own, or none is set at all: then it is Trove's, and in `trove dev` there is none.
const RateDefault = -1

// troveRate is Trove's limit.
const troveRate = 200

func defaultAPI() API {
	return API{
		Listen: "127.0.0.1:8779", RateLimit: RateDefault, RateGet: RateDefault, RatePost: RateDefault, RatePut: RateDefault, RateDelete: RateDefault,
		MaxVolumeSize: 100, PolicyFile: "policy.yaml", Drain: 10 * time.Second,
		MaxBody: 1 << 20, MaxHeader: 16 << 10, HeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute,
		CORS: CORS{
			AllowCredentials: true, MaxAge: 3600,
			ExposeHeaders: []string{"X-Auth-Token", "X-Subject-Token", "X-Service-Token", "X-OpenStack-Request-ID", "X-Trove-Operation", "Idempotency-Replayed", "Retry-After"},
			AllowMethods:  []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch},
			AllowHeaders: []string{
				"X-Auth-Token", "X-Identity-Status", "X-Roles", "X-Service-Catalog", "X-User-Id", "X-Tenant-Id", "X-OpenStack-Request-ID", "Idempotency-Key",
			},
		},
		Audit: Audit{Days: 90, Keep: 1_000_000},
	}
}

// Rates returns the limits by method; 0 is none.
func (a API) Rates() map[string]int {
	all := map[string]int{http.MethodGet: a.RateGet, http.MethodPost: a.RatePost, http.MethodPut: a.RatePut, http.MethodDelete: a.RateDelete}
	general := a.RateLimit
	if general == RateDefault {
		general = troveRate
	}
	for method, n := range all {
		if n == RateDefault {
			all[method] = general
		}
	}
	return all
}

// AllListeners returns api.listen and the further ones.
func (a API) AllListeners() []Listener {
	return append([]Listener{{a.Listen, a.TLSCertificate, a.TLSKey}}, a.Listeners...)
}

// URL is where the API is reached when nothing else is said.
func (a API) URL() string {
	if a.PublicURL != "" {
		return strings.TrimSuffix(a.PublicURL, "/")
	}
	if a.TLSCertificate != "" {
		return "https://" + a.Listen
	}
	return "http://" + a.Listen
}

// Proxies returns the ranges of trusted proxies.
func (a API) Proxies() ([]netip.Prefix, error) {
	all := make([]netip.Prefix, 0, len(a.TrustedProxies))
	for _, text := range a.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if ip, aerr := netip.ParseAddr(text); err != nil && aerr == nil {
			p, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("api.trusted_proxies: %q is not an address or a range of them", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// DisableByPort returns the files of healthcheck_disable_ports.
func (a API) DisableByPort() (map[int]string, error) {
	all := map[int]string{}
	for _, text := range a.HealthcheckDisablePorts {
		port, file, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(strings.TrimSpace(port))
		if err != nil || n < 1 || n > 65535 || !filepath.IsAbs(file) {
			return nil, fmt.Errorf("api.healthcheck_disable_ports: %q is not port:file with an absolute path", text)
		}
		all[n] = file
	}
	return all, nil
}

func (a API) check() error {
	seen := map[string]bool{}
	for n, l := range a.AllListeners() {
		name := "api.listen"
		if n > 0 {
			name = "api.listeners"
		}
		if _, err := netip.ParseAddrPort(l.Listen); err != nil {
			return fmt.Errorf("%s: %q is not an address with a port", name, l.Listen)
		}
		if seen[l.Listen] {
			return fmt.Errorf("api.listeners: %s is there twice", l.Listen)
		}
		seen[l.Listen] = true
		if (l.TLSCertificate == "") != (l.TLSKey == "") {
			return fmt.Errorf("api.tls_certificate, api.tls_key: %s needs both or none", l.Listen)
		}
	}
	if u, err := url.Parse(a.PublicURL); a.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "") {
		return fmt.Errorf("api.public_url: %q is not scheme://host:port", a.PublicURL)
	}
	if _, err := a.Proxies(); err != nil {
		return err
	}
	if _, err := a.DisableByPort(); err != nil {
		return err
	}
	if err := a.CORS.check(); err != nil {
		return err
	}
	return a.checkNumbers()
}

func (a API) checkNumbers() error {
	for _, n := range []struct {
		name         string
		value, least int
	}{
		{"api.rate_limit", a.RateLimit, RateDefault},
		{"api.rate_get", a.RateGet, RateDefault},
		{"api.rate_post", a.RatePost, RateDefault},
		{"api.rate_put", a.RatePut, RateDefault},
		{"api.rate_delete", a.RateDelete, RateDefault},
		{"api.max_body", a.MaxBody, 1024},
		{"api.max_header", a.MaxHeader, 4096},
		{"api.audit.days", a.Audit.Days, 0},
		{"api.audit.keep", a.Audit.Keep, 0},
		{"api.cors.max_age", a.CORS.MaxAge, 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("%s: %d is less than %d", n.name, n.value, n.least)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"api.header_timeout", a.HeaderTimeout},
		{"api.read_timeout", a.ReadTimeout},
		{"api.write_timeout", a.WriteTimeout},
		{"api.idle_timeout", a.IdleTimeout},
	} {
		if d.value < time.Second {
			return fmt.Errorf("%s: %s is less than a second", d.name, d.value)
		}
	}
	return nil
}

func (c CORS) check() error {
	for _, o := range c.AllowedOrigin {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "") {
			return fmt.Errorf("api.cors.allowed_origin: %q is not an origin such as https://horizon.example", o)
		}
	}
	return nil
}

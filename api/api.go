// Package api is trove-api: Trove's REST API v1.0 and our extensions to it.
//
// The operation table (Operations) says what there is; the server routes, checks bodies and policy from it. Handlers read the store and the
// catalogue, ask guests short questions over the bus, and enqueue durable operations; they never do long work and change nothing in the
// cloud. Wire formats are those of package wire; errors leave through the table in faults.go. The handler that New returns may be used from
// several goroutines and owns none.
package api

//go:generate go test ./internal/openapi -run TestFresh -update
//go:generate go test . -run TestCoverage -update

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/store"
)

// Guests are the short questions to guests; guestapi.Client answers them. Errors have the kind that the guest said, Unavailable if it does not
// answer.
type Guests interface {
	Ping(ctx context.Context, instance string) (guestapi.Hello, error)
	Machine(ctx context.Context, instance string) (guestapi.MachineInfo, error)
	TLS(ctx context.Context, instance string) (guestapi.TLSState, error)
	SetTLS(ctx context.Context, instance string, args guestapi.SetTLSArgs) (guestapi.TLSChanged, error)
	RollbackTLS(ctx context.Context, instance string) (guestapi.TLSChanged, error)
	ListDatabases(ctx context.Context, instance string) ([]trove.Database, error)
	CreateDatabases(ctx context.Context, instance string, databases []trove.Database) error
	DropDatabase(ctx context.Context, instance, name string) error
	ListUsers(ctx context.Context, instance string) ([]trove.User, error)
	CreateUsers(ctx context.Context, instance string, users []guestapi.UserArgs) error
	DropUser(ctx context.Context, instance string, user guestapi.UserRef) error
	UpdateUser(ctx context.Context, instance string, change guestapi.UpdateUserArgs) error
	Grant(ctx context.Context, instance string, user guestapi.UserRef, databases []string) error
	Revoke(ctx context.Context, instance string, user guestapi.UserRef, database string) error
	EnableRoot(ctx context.Context, instance string, password trove.Secret) error
	DisableRoot(ctx context.Context, instance string) error
	Logs(ctx context.Context, instance string) ([]guestapi.LogState, error)
	SetLog(ctx context.Context, instance, log string, on bool) error
	PublishLog(ctx context.Context, instance string, args guestapi.PublishLogArgs) (guestapi.LogPublished, error)
	CheckUpgrade(ctx context.Context, instance, version string) (guestapi.UpgradeCheck, error)
	TailLog(ctx context.Context, instance string, args guestapi.TailLogArgs) (guestapi.LogTail, error)
	Metrics(ctx context.Context, instance string, args guestapi.MetricsArgs) (guestapi.Metrics, error)
	Statements(ctx context.Context, instance string, args guestapi.StatementsArgs) ([]guestapi.Statement, error)
	Drift(ctx context.Context, instance string) ([]guestapi.Difference, error)
	ApplyConfiguration(ctx context.Context, instance string, args guestapi.ApplyConfigurationArgs) (guestapi.ConfigurationApplied, error)
}

// Grants makes grants for guests; grant.Issuer is it.
type Grants interface {
	Issue(ctx context.Context, s grant.Spec) (guestapi.Grant, error)
}

// Config is what the API needs. Store, Auth, Policy, Guests, Catalog, Sealer, Clock and Log are required.
type Config struct {
	Store   store.Store
	Auth    identity.Authenticator
	Policy  Enforcer
	Guests  Guests
	Catalog cloud.Catalog
	Sealer  secrets.Sealer
	Vault   secrets.Vault // of secrets that callers name; nil: there is none
	Clock   clock.Clock
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
	// Objects is where published logs are, and Grants lets guests write there; nil: logs are not available.
	Objects backupstore.Store
	Grants  Grants
	Wake    func(context.Context) // called after an operation was enqueued; nil: the taskmanager finds it by itself

	// Engines are the engine drivers that the deployment has, by manager: what a new datastore version gets from its driver, and what the defaults of an
	// instance are.
	Engines map[string]Engine

	Region           string // "": RegionOne
	DefaultDatastore string // what a create without a datastore gets; "": it has to name one
	// PublicEndpoint is scheme, host and port under which clients reach this API ("https://db.example:8779"); links begin with it. "": as Trove
	// does, https and the request's Host in links to resources, http in the version document.
	PublicEndpoint string
	MaxVolumeSize  int // GiB; 0: no limit
	PageSize       int // the longest page; 0: 20
	// Rates are the calls a project may make per minute, by verb (GET, POST, PUT, DELETE); a verb that is missing has DefaultRate. The count is
	// this process's own.
	Rates       map[string]int
	NoRateLimit bool

	// FollowRequest lets links begin as the client reached the API, as far as trusted proxies tell; only without PublicEndpoint.
	FollowRequest bool
	// MaxBody is how large a request body may be, in bytes; 0: DefaultMaxBody.
	MaxBody int64
	// Disabled says of a health check that it is to fail: the process is to be taken out of a load balancer. nil: never.
	Disabled func(*http.Request) bool
	// Draining is closed when the server begins to stop: long polls answer at once with what there is. nil: never.
	Draining <-chan struct{}
}

// Engine is what the deployment knows of an engine driver.
type Engine struct {
	Capabilities trove.Capabilities
	// Parameters returns the rules for what users may set, of a version of the product; nil: the driver has none.
	Parameters func(version string) []trove.Parameter
	// Defaults returns the options that follow from a flavor; nil: the driver does not say.
	Defaults func(ram, vcpus int) map[string]string
}

// Rules returns the driver's rules for a version.
func (e Engine) Rules(version string) []trove.Parameter {
	if e.Parameters == nil {
		return nil
	}
	return e.Parameters(version)
}

// Defaults.
const (
	DefaultRate     = 200
	DefaultPageSize = 20
	defaultRegion   = "RegionOne"
)

type server struct {
	cfg      Config
	schemas  map[string]*jsonschema.Schema
	router   *chi.Mux
	table    map[string]*Operation // by method and pattern
	rates    *rates
	tails    *tails
	audit    *auditor
	metrics  *metrics
	versions versionCache
}

// New returns the handler of the whole API, version discovery and health check included.
func New(cfg Config) (http.Handler, error) {
	if cfg.Store == nil || cfg.Auth == nil || cfg.Policy == nil || cfg.Guests == nil || cfg.Catalog == nil || cfg.Sealer == nil ||
		cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("api: Store, Auth, Policy, Guests, Catalog, Sealer, Clock and Log are required")
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = DefaultPageSize
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	cfg.PublicEndpoint = strings.TrimSuffix(cfg.PublicEndpoint, "/")
	schemas, err := compileSchemas()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	audit := newAuditor(cfg)
	cfg.Store = trackingStore{cfg.Store}
	s := &server{
		cfg: cfg, schemas: schemas, router: chi.NewRouter(), table: map[string]*Operation{}, metrics: m, rates: newRates(cfg), tails: newTails(), audit: audit,
	}
	for _, op := range Operations() {
		if op.Schema != "" && schemas[op.Schema] == nil {
			return nil, fmt.Errorf("api: operation %s names the schema %s, which is not there", op.ID, op.Schema)
		}
		s.router.Method(op.Method, op.Path, http.NotFoundHandler()) // only its matching is used
		s.table[op.Method+" "+op.Path] = &op
	}
	return s, nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// figures are what the controllers' process says of itself.
type figures struct {
	CPU         float64 `json:"cpu"` // seconds
	RSS         int64   `json:"rss"` // bytes
	Connections int     `json:"connections"`
	Received    float64 `json:"received"`
	Dropped     float64 `json:"dropped"` // reports lost: the reader was too slow
	Refused     float64 `json:"refused"` // reports above the budget of a guest
	Kicks       float64 `json:"kicks"`
	Late        int     `json:"late"` // guests not seen for an interval and a grace
	Revoked     int     `json:"revoked"`
}

// fleetGuests answers the broker's questions about guests from the store.
type fleetGuests struct{ store store.Store }

func (g fleetGuests) UseEnrolmentToken(context.Context, string, string) (string, error) {
	return "", trove.Errorf(trove.KindUnauthorized, "There are no tokens here.")
}

func (g fleetGuests) TokenOwner(ctx context.Context, hash string) (string, error) {
	return g.store.TokenOwner(ctx, hash)
}

func (g fleetGuests) GuestKey(ctx context.Context, instance string) (string, error) {
	guest, err := g.store.Guest(ctx, instance)
	return guest.PublicKey, err
}

func (g fleetGuests) CredentialIssued(ctx context.Context, instance string, expires time.Time, _ string) error {
	return g.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.SetGuestCredential(ctx, instance, expires) })
}

type revocations struct{ *sqlstore.Store }

func (r revocations) RevokedKeys(ctx context.Context) ([]server.RevokedKey, error) {
	keys, err := r.Store.RevokedKeys(ctx)
	all := make([]server.RevokedKey, 0, len(keys))
	for _, k := range keys {
		all = append(all, server.RevokedKey(k))
	}
	return all, err
}

func (r revocations) PutController(ctx context.Context, row server.ControllerRow) error {
	return r.Store.PutController(ctx, sqlstore.Controller(row))
}

func (r revocations) Controllers(ctx context.Context) ([]server.ControllerRow, error) {
	stored, err := r.Store.Controllers(ctx)
	var all []server.ControllerRow
	for _, c := range stored {
		all = append(all, server.ControllerRow(c))
	}
	return all, err
}

func (r revocations) GuestTrusts(ctx context.Context) ([]server.GuestTrust, error) {
	stored, err := r.Store.GuestTrusts(ctx)
	var all []server.GuestTrust
	for _, g := range stored {
		all = append(all, server.GuestTrust(g))
	}
	return all, err
}

type controller struct {
	options
	store   *sqlstore.Store
	broker  *server.Server
	metrics *prometheus.Registry
}

// control runs broker, conductor and store until its input ends. Each line of the input is a question, answered by a line of JSON.
func control(ctx context.Context, o options) error {
	if o.procs > 0 {
		runtime.GOMAXPROCS(o.procs)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c := &controller{options: o, metrics: prometheus.NewRegistry()}
	var err error
	if c.store, err = sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(o.dir, "store.db"), Log: log}); err != nil {
		return err
	}
	defer func() { _ = c.store.Close() }()
	if err := c.start(ctx, 0, log); err != nil {
		return err
	}
	defer func() { _ = c.broker.Close() }()
	if err := c.prepare(ctx, log); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	reports, err := c.broker.Conn(ctx, "reports")
	if err != nil {
		return err
	}
	d, err := conductor.New(conductor.Config{
		Store: c.store, Conn: reports, Clock: clock.System{}, Log: log, Metrics: c.metrics, Wake: func() {},
		Burst: 5 * o.limits, PerSecond: o.limits,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if err := c.answer(ctx); err != nil {
		return err
	}
	stop()
	return <-ended
}

func (c *controller) start(ctx context.Context, life time.Duration, log *slog.Logger) error {
	host, port, err := net.SplitHostPort(c.listen)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	c.broker, err = server.Start(ctx, server.Config{
		Keys: keyfile.Dir(filepath.Join(c.dir, "keys")), Listen: c.listen, EnrolListen: net.JoinHostPort(host, strconv.Itoa(n+1)),
		Repository: revocations{c.store}, Guests: fleetGuests{c.store}, Log: log, Metrics: c.metrics, CredentialLife: life,
		Limits: server.Limits{Messages: c.limits},
	})
	return err
}

func instanceID(n int) string { return fmt.Sprintf("f1ee7000-0000-4000-8000-%012x", n) }

func identityDir(dir string, n int) string {
	return filepath.Join(dir, "guests", strconv.Itoa(n/100), strconv.Itoa(n))
}

// overdue is the guest whose credential has expired before it comes.
const overdue = 1

// prepare makes rows and identities for the guests that have none.
func (c *controller) prepare(ctx context.Context, log *slog.Logger) error {
	if _, err := os.Stat(identityDir(c.dir, c.guests-1)); err == nil {
		return nil
	}
	const batch = 500
	for done := 0; done < c.guests; done += batch {
		if err := c.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
			for n := done; n < min(done+batch, c.guests); n++ {
				if err := c.enrol(ctx, tx, n); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	// A broker of another life gives the overdue guest its credential.
	if err := c.broker.Close(); err != nil {
		return err
	}
	if err := c.start(ctx, 2*time.Second, log); err != nil {
		return err
	}
	if err := c.issue(ctx, overdue); err != nil {
		return err
	}
	if err := c.broker.Close(); err != nil {
		return err
	}
	return c.start(ctx, 0, log)
}

// enrol makes a guest's key and row as an enrolment would; the endpoint's limits are for one guest per address.
func (c *controller) enrol(ctx context.Context, tx store.Tx, n int) error {
	id, now := instanceID(n), time.Now()
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	dir := identityDir(c.dir, n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "guest.nk"), seed, 0o600); err != nil {
		return err
	}
	if err := tx.InsertInstance(ctx, trove.Instance{ID: id, ProjectID: "p", Name: id, ServerID: uint32(n + 1), Created: now, Updated: now}); err != nil {
		return err
	}
	if err := tx.PutEnrolmentToken(ctx, id, id, now.Add(time.Hour)); err != nil {
		return err
	}
	if _, err := tx.UseEnrolmentToken(ctx, id, public, now); err != nil {
		return err
	}
	return c.credential(ctx, n, public)
}

func (c *controller) issue(ctx context.Context, n int) error {
	guest, err := c.store.Guest(ctx, instanceID(n))
	if err != nil {
		return err
	}
	return c.credential(ctx, n, guest.PublicKey)
}

func (c *controller) credential(ctx context.Context, n int, public string) error {
	credential, err := c.broker.IssueGuest(ctx, instanceID(n), public)
	if err != nil {
		return err
	}
	for name, v := range map[string]any{
		"credential.json": credential,
		"enrolment.json": bus.BootData{
			Instance: instanceID(n), EnrolURLs: c.broker.EnrolURLs(), CABundle: c.broker.CABundle(),
		},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(identityDir(c.dir, n), name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// answer answers questions: "figures", "rest" (figures after a collection, memory given back), "revoke N", "late SECONDS".
func (c *controller) answer(ctx context.Context) error {
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(figures{}); err != nil { // it is up
		return err
	}
	for in.Scan() {
		words := strings.Fields(in.Text())
		arg := 0
		if len(words) > 1 {
			arg, _ = strconv.Atoi(words[1])
		}
		late := 0
		switch words[0] {
		case "rest":
			runtime.GC()
			debug.FreeOSMemory()
		case "revoke":
			guest, err := c.store.Guest(ctx, instanceID(arg))
			if err != nil {
				return err
			}
			if err := c.broker.RevokeGuest(ctx, instanceID(arg), guest.PublicKey); err != nil {
				return err
			}
		case "late":
			all, err := c.store.Instances(ctx, store.InstanceFilter{SilentSince: time.Now().Add(-time.Duration(arg) * time.Second)})
			if err != nil {
				return err
			}
			late = len(all)
		}
		f, err := c.figures(ctx)
		if err != nil {
			return err
		}
		f.Late = late
		if err := out.Encode(f); err != nil {
			return err
		}
	}
	return in.Err()
}

func (c *controller) figures(ctx context.Context) (figures, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return figures{}, err
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	f := figures{CPU: seconds(usage.Utime) + seconds(usage.Stime), RSS: resident()}
	families, err := c.metrics.Gather()
	if err != nil {
		return figures{}, err
	}
	for _, family := range families {
		sum := 0.0
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == "budget" {
				f.Refused = m.GetCounter().GetValue()
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		switch family.GetName() {
		case "trove_bus_connections":
			f.Connections = int(sum)
		case "trove_conductor_reports_total":
			f.Received = sum
		case "trove_conductor_dropped_total":
			f.Dropped += sum
		case "trove_bus_dropped_messages", "trove_bus_slow_consumers_total":
			f.Dropped += sum
		case "trove_bus_kicks_total":
			f.Kicks = sum
		}
	}
	revoked, err := c.store.RevokedKeys(ctx)
	f.Revoked = len(revoked)
	return f, err
}

// resident returns the memory of this process in bytes.
func resident() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/file"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestagent/objects"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store"
)

const patience = time.Minute // how long a test waits for what must come

// world is a gateway with two guests of two projects.
type world struct {
	t       *testing.T
	clock   *clock.Manual
	keys    *grant.Keyring
	issuer  *grant.Issuer
	dir     string // of the store
	store   *file.Store
	state   *state
	gateway *gateway.Gateway
	metrics *prometheus.Registry
	ca      string
	log     *lockedBuffer
	config  gateway.Config

	good, evil *guest
}

type guest struct {
	instance, project string
	pair              nkeys.KeyPair
	ca                string
}

func (g *guest) Sign(text []byte) ([]byte, error) { return g.pair.Sign(text) }
func (g *guest) CABundle() (string, error)        { return g.ca, nil }
func (*guest) CertificateTime() time.Time         { return time.Now() }

func (g *guest) public() string {
	p, err := g.pair.PublicKey()
	if err != nil {
		panic(err)
	}
	return p
}

func (g *guest) container() backupstore.Container {
	return backupstore.Container{Project: g.project, Name: "database_logs"}
}

// state is the part of the control plane's store that the gateway asks.
type state struct {
	mu         sync.Mutex
	keys       map[string]string
	operations map[string]trove.OperationState
}

func (s *state) Guest(_ context.Context, instance string) (store.Guest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.keys[instance]
	if !ok {
		return store.Guest{}, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", instance)
	}
	return store.Guest{InstanceID: instance, PublicKey: key}, nil
}

func (s *state) Operation(_ context.Context, id string) (trove.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.operations[id]
	if !ok {
		return trove.Operation{}, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	return trove.Operation{ID: id, State: st}, nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, limits gateway.Limits) *world {
	t.Helper()
	w := &world{
		t: t, clock: clock.NewManual(time.Now()), metrics: prometheus.NewRegistry(), log: &lockedBuffer{},
		state: &state{keys: map[string]string{}, operations: map[string]trove.OperationState{"op-open": trove.OperationOpen, "op-done": trove.OperationDone}},
	}
	var err error
	if w.keys, err = grant.Open(t.Context(), keyfile.Dir(t.TempDir()), w.clock); err != nil {
		t.Fatal(err)
	}
	w.dir = t.TempDir()
	if w.store, err = file.Open(file.Config{Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	var config *tls.Config
	config, w.ca = certificates(t)
	w.config = gateway.Config{
		Listen: "127.0.0.1:0", TLS: config, Grants: w.keys, Store: w.store, State: w.state, Limits: limits,
		Log: slog.New(slog.NewTextHandler(w.log, nil)), Clock: w.clock, Metrics: w.metrics,
	}
	w.start()
	w.issuer = grant.NewIssuer(w.keys, w.state, func() ([]string, error) { return w.gateway.URLs(), nil }, w.clock)
	w.good, w.evil = w.join("6a1c0000-0000-4000-8000-000000000001", "project-good"), w.join("6a1c0000-0000-4000-8000-00000000000e", "project-evil")
	return w
}

func (w *world) start() {
	w.t.Helper()
	g, err := gateway.Start(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.gateway = g
	w.t.Cleanup(func() { _ = g.Close() })
}

func (w *world) join(instance, project string) *guest {
	w.t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		w.t.Fatal(err)
	}
	g := &guest{instance: instance, project: project, pair: pair, ca: w.ca}
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	w.state.keys[instance] = g.public()
	return g
}

func (w *world) client(g *guest) *objects.Client {
	return objects.New(g, clock.System{}, slog.New(slog.DiscardHandler))
}

// grant returns a grant for the guest's own logs; change may be nil.
func (w *world) grant(g *guest, method string, change func(*grant.Spec)) guestapi.Grant {
	w.t.Helper()
	s := grant.Spec{Instance: g.instance, Container: g.container(), Method: method, Prefix: g.instance + "/logs/a/", Life: time.Hour}
	if method == http.MethodPut {
		s.MaxBytes = 1 << 20
	}
	if change != nil {
		change(&s)
	}
	made, err := w.issuer.Issue(w.t.Context(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func (w *world) refused(reason string) float64 {
	w.t.Helper()
	all, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() != "trove_gateway_refused_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// inventory is everything that is stored, with hashes.
func (w *world) inventory() []string {
	w.t.Helper()
	all := []string{}
	for _, g := range []*guest{w.good, w.evil} {
		found, err := w.store.List(w.t.Context(), g.container(), backupstore.ListOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, o := range found {
			all = append(all, fmt.Sprintf("%s/%s %d %s", g.project, o.Name, o.Size, o.SHA256[:8]))
		}
	}
	return all
}

// raw is a request as an attacker writes it.
type raw struct {
	method, path string
	token        string
	signer       *guest
	signMethod   string // "": method
	signName     string // "": what the path names
	exported     []byte // nil: the connection's own
	headers      []string
	body         string
	length       string // Content-Length; "": that of the body; "none": no header
	noHash       bool
	signature    string // "": made
}

func (w *world) dial() *tls.Conn {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(w.ca))
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.gateway.URLs()[0], "https://"), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func exporter(t *testing.T, conn *tls.Conn) []byte {
	t.Helper()
	state := conn.ConnectionState()
	exported, err := state.ExportKeyingMaterial(guestapi.ObjectExporter, nil, guestapi.ObjectExporterSize)
	if err != nil {
		t.Fatal(err)
	}
	return exported
}

// head returns the request up to its body, for a connection.
func (w *world) head(conn *tls.Conn, r raw) string {
	w.t.Helper()
	name := r.signName
	if name == "" {
		name = strings.TrimPrefix(r.path, guestapi.ObjectPath)
	}
	method := r.signMethod
	if method == "" {
		method = r.method
	}
	exported := r.exported
	if exported == nil {
		exported = exporter(w.t, conn)
	}
	lines := []string{r.method + " " + r.path + " HTTP/1.1", "Host: gateway", "Authorization: Bearer " + r.token}
	if r.signer != nil {
		signature, err := r.signer.Sign(guestapi.ObjectText(method, name, r.token, exported))
		if err != nil {
			w.t.Fatal(err)
		}
		r.signature = base64.StdEncoding.EncodeToString(signature)
	}
	lines = append(lines, guestapi.HeaderSignature+": "+r.signature)
	if r.method == http.MethodPut && !r.noHash {
		sum := sha256.Sum256([]byte(r.body))
		lines = append(lines, guestapi.HeaderSHA256+": "+hex.EncodeToString(sum[:]))
	}
	switch {
	case r.length == "none" || r.method != http.MethodPut && r.length == "":
	case r.length != "":
		lines = append(lines, "Content-Length: "+r.length)
	default:
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(r.body)))
	}
	return strings.Join(append(lines, r.headers...), "\r\n") + "\r\n\r\n"
}

// send sends a request on a connection of its own and returns the answer's status.
func (w *world) send(r raw) int {
	w.t.Helper()
	conn := w.dial()
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte(w.head(conn, r) + r.body)) // it may be cut
	return answered(w.t, conn, r.method)
}

// answered returns the status of the answer, 0 if the connection was closed without one.
func answered(t *testing.T, conn net.Conn, method string) int {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://gateway", http.NoBody)
	if err != nil {
		req = nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// certificates makes a CA and a server's certificate.
func certificates(t *testing.T) (config *tls.Config, bundle string) {
	t.Helper()
	caKey, leafKey := newKey(t), newKey(t)
	template := func(serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		}
	}
	ca := template(1)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	server := template(2)
	server.IPAddresses, server.KeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, server, ca, leafKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	config = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: leafKey}}}
	return config, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}))
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !ok() {
		if clock.Sleep(ctx, 5*time.Millisecond) != nil {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

package openstack_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// world is a deployment over the lab whose parts can be killed, whose requests to the cloud are seen and cut off, and whose guests are simulated.
type world struct {
	t       *testing.T
	service *service
	guests  *guests
	proxies map[string]*proxy // by part
	client  *client.Client
	crash   string // what TROVE_CRASH_FILE names
	network string // the tenant's
	alone   bool   // nobody else uses the lab: its whole inventory is compared
	stops   bool   // services are taken away by an end of their daemons
	things  things

	mu     sync.Mutex
	ids    map[string]bool // of our instances, and of things that once named them
	opened time.Time
	cloud  *openstack.Cloud
}

// things are what the tests need in the cloud.
type things struct {
	small, large, huge string // flavors
	image, deadImage   string // one that starts, and where servers are more than words one that does not
	version            string // of the datastore
	brokenType         string // a volume type that no storage has
	fullType           string // one of which the service project may have nothing
}

// tokenLife is how long a login of the test's own is used; Keystone's tokens live for an hour.
const tokenLife = 20 * time.Minute

// lab returns the cloud, logged in not too long ago.
func (w *world) lab() *openstack.Cloud {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cloud != nil && time.Since(w.opened) < tokenLife {
		return w.cloud
	}
	c, err := openstack.Open(noCancel(w.t), state)
	if err != nil {
		if w.cloud == nil {
			w.t.Fatal(err)
		}
		return w.cloud // Keystone may be away at the moment
	}
	w.cloud, w.opened = c, time.Now()
	return c
}

// newWorld starts one, with more lines of the configuration's section openstack.
func newWorld(t *testing.T, more string) *world {
	t.Helper()
	w := &world{t: t, proxies: map[string]*proxy{}, alone: os.Getenv("LAB_ALONE") != "", stops: os.Getenv("LAB_ALONE")+os.Getenv("LAB_STOPS") != "", ids: map[string]bool{}}
	if err := os.MkdirAll(filepath.Join(repository, "var", "openstack"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.crash = filepath.Join(t.TempDir(), "crash")
	w.makeThings()
	w.service = w.newService(more)
	w.guests = newGuests(t, w.lab)
	w.login()
	return w
}

// newService makes the deployment in the lab as the lab seeds it. Nothing of it is in the catalogue: the lab may be shared with deployments that are.
func (w *world) newService(more string) *service {
	t := w.t
	t.Helper()
	s := &service{t: t, dir: filepath.Join(repository, "var", "openstack", "faults-"+unique), runs: map[string]*process{}, metrics: map[string]string{}, crash: os.Getenv("CRASH_TROVE")}
	for _, part := range parts {
		s.metrics[part] = net.JoinHostPort("127.0.0.1", freePorts(t, 1)[0])
		w.proxies[part] = newProxy(t, w.lab().Ports())
	}
	err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(filepath.Join(s.dir, "keys"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 4)
	s.listen = net.JoinHostPort(controller, ports[0])
	s.guestPorts = map[string]string{"bus": ports[1], "enrolment": ports[2], "object gateway": ports[3]}
	s.write("trove.yaml", fmt.Sprintf(`cloud: openstack
bus: {address: %[1]s, port: %[2]s, enrol_port: %[3]s}
objects: {port: %[4]s, store: swift, swift_accounts: project}
api: {listen: "%[5]s", rate_limit: 0, listeners: [{listen: "%[6]s"}]}
identity: {driver: keystone, auth_url: "http://%[1]s:5000/v3", username: trove, password_file: keys/openstack-password, project: service, service_roles: [admin]}
quota: {instances: 100, volumes: 400}
log: {level: debug}
openstack:
  auth_url: "http://%[1]s:5000/v3"
  username: trove
  password_file: keys/openstack-password
  public_network: public
  management_network: %[9]s
  management_security_group: %[9]s
  %[7]s
`, controller, ports[1], ports[2], ports[3], s.listen, s.metrics["api"], more, unique, cmp.Or(os.Getenv("LAB_MANAGEMENT"), "trove-management")))
	s.servicePassword()
	w.datastore(s)
	w.startAll(s)
	t.Cleanup(func() {
		_ = os.Remove(w.crash)
		for _, part := range slices.Backward(parts) {
			s.stop(part, syscall.SIGTERM)
		}
		if t.Failed() {
			t.Logf("the state with all logs: %s\n%s", s.dir, s.logs())
			return
		}
		_ = os.RemoveAll(s.dir)
	})
	return s
}

func (w *world) startAll(s *service) {
	for _, part := range parts {
		w.start(s, part)
	}
}

// start starts a part behind its proxy. The taskmanager is the one that dies where it is told to.
func (w *world) start(s *service, part string) {
	w.t.Helper()
	s.start(part, "HTTP_PROXY="+w.proxies[part].url, "TROVE_CRASH_FILE="+w.crash)
}

// datastore registers a version whose engine needs no product.
func (w *world) datastore(s *service) {
	w.t.Helper()
	db, err := sqlstore.Open(w.t.Context(), sqlstore.Config{Path: filepath.Join(s.dir, "store.db")})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	d := trove.NewID()
	w.things.version = trove.NewID()
	version := func(id, name, image string) trove.DatastoreVersion {
		return trove.DatastoreVersion{
			ID: id, DatastoreID: d, Name: name, Version: "1", Manager: enginefake.Manager, ImageID: image, Active: true, Capabilities: enginefake.New().Info().Capabilities,
		}
	}
	err = db.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		err := errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: d, Name: enginefake.Manager, DefaultVersionID: w.things.version}),
			tx.PutDatastoreVersion(ctx, version(w.things.version, "1", w.things.image)))
		if w.things.deadImage != "" {
			err = errors.Join(err, tx.PutDatastoreVersion(ctx, version(trove.NewID(), "dead", w.things.deadImage)))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// login makes the client of somebody of the project demo.
func (w *world) login() {
	w.t.Helper()
	w.client = w.clientOf("demo")
	w.network = w.thing("network", "/v2.0/networks?name=tenant", "networks")
}

// clientOf logs one of the lab's users in, in his project.
func (w *world) clientOf(user string) *client.Client {
	w.t.Helper()
	rc, err := openstack.ReadRC(filepath.Join(state, user+"rc"))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := client.New(client.Config{
		AuthURL: rc["OS_AUTH_URL"], Username: rc["OS_USERNAME"], Password: trove.Secret(rc["OS_PASSWORD"]), Project: rc["OS_PROJECT_NAME"],
		Endpoint: "http://" + w.service.listen + "/v1.0/" + w.lab().Project(rc["OS_PROJECT_NAME"]), HTTP: &http.Client{Timeout: time.Minute},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// thing returns the id of the first entry of a list.
func (w *world) thing(service, path, key string) string {
	w.t.Helper()
	var answer map[string]any
	if err := w.lab().Ask(w.t.Context(), http.MethodGet, "admin", service, path, nil, &answer); err != nil {
		w.t.Fatal(err)
	}
	all, _ := answer[key].([]any)
	if len(all) == 0 {
		w.t.Fatalf("%s%s: nothing is there", service, path)
	}
	entry, _ := all[0].(map[string]any)
	return fmt.Sprint(entry["id"])
}

// ask is a request of the administrator's that must succeed.
func (w *world) ask(method, service, path string, body, into any) {
	w.t.Helper()
	if err := w.lab().Ask(noCancel(w.t), method, "admin", service, path, body, into); err != nil {
		w.t.Fatal(err)
	}
}

// makeThings makes flavors and volume types of this run's own. They go with the test.
func (w *world) makeThings() {
	w.t.Helper()
	w.things.image = w.thing("image", "/v2/images?name=lab-tiny", "images")
	if !wordsForServers() {
		w.things.deadImage = w.emptyImage()
	}
	for name, f := range map[string]struct {
		ram int
		id  *string
	}{
		"small": {64, &w.things.small},
		"large": {96, &w.things.large},
		"huge":  {4 << 20, &w.things.huge},
	} {
		var made struct{ Flavor struct{ ID string } }
		w.ask(http.MethodPost, "compute", "/flavors", map[string]any{"flavor": map[string]any{
			"name": "faults-" + name + "-" + unique, "ram": f.ram, "vcpus": 1, "disk": 1,
		}}, &made)
		*f.id = made.Flavor.ID
		w.t.Cleanup(func() { w.ask(http.MethodDelete, "compute", "/flavors/"+made.Flavor.ID, nil, nil) })
	}
}

// volumeType makes a volume type with these further words.
func (w *world) volumeType(name string, specs map[string]string) string {
	w.t.Helper()
	name = "faults-" + name + "-" + unique
	var made struct {
		Type struct{ ID string } `json:"volume_type"`
	}
	w.ask(http.MethodPost, "block-storage", "/types", map[string]any{"volume_type": map[string]any{"name": name, "extra_specs": specs}}, &made)
	w.t.Cleanup(func() { w.ask(http.MethodDelete, "block-storage", "/types/"+made.Type.ID, nil, nil) })
	return name
}

// spec is what is asked for where a test has no other wish.
func (w *world) spec(name string) wire.InstanceCreate {
	return wire.InstanceCreate{
		Name: name + "-" + unique, FlavorRef: wire.Ref(w.things.small), Volume: &wire.VolumeCreate{Size: 1}, NICs: []wire.NIC{{NetID: w.network}},
		Datastore: &wire.DatastoreChoice{Type: enginefake.Manager, Version: "1"}, Databases: []wire.DatabaseCreate{{Name: "app"}},
		Users: []wire.UserCreate{{Name: "app", Password: "walk-" + unique, Databases: []wire.Database{{Name: "app"}}}},
	}
}

// create asks for an instance, whose guest is simulated as soon as there is a server.
func (w *world) create(spec wire.InstanceCreate) string {
	w.t.Helper()
	i, err := w.client.CreateInstance(w.t.Context(), spec)
	if err != nil {
		w.t.Fatalf("create %s: %v", spec.Name, err)
	}
	w.learn(i.ID)
	w.guests.add(i.ID)
	return i.ID
}

func (w *world) instance(id string) wire.Instance {
	w.t.Helper()
	i, err := w.client.Instance(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// longest is how long an operation may take here: a machine that several labs share is slow.
const longest = 6 * time.Minute

// newest returns the newest operation of an instance.
func (w *world) newest(id string) (wire.Operation, bool) {
	all, err := w.client.Operations(w.t.Context(), id)
	if err != nil || len(all) == 0 {
		return wire.Operation{}, false
	}
	return all[0], true
}

// ends waits for the end of the newest operation and returns it with its timeline.
func (w *world) ends(id, kind string) wire.Operation {
	w.t.Helper()
	var op wire.Operation
	eventually(w.t, longest, kind+" to end", func() bool {
		var ok bool
		op, ok = w.newest(id)
		return ok && op.State != string(trove.OperationOpen)
	})
	if op.Kind != kind {
		w.t.Fatalf("the newest operation is %s, not %s", op.Kind, kind)
	}
	op, err := w.client.Operation(w.t.Context(), id, op.ID, 0, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return op
}

// remove deletes an instance and waits until it is gone.
func (w *world) remove(id string) {
	w.t.Helper()
	if err := w.client.DeleteInstance(w.t.Context(), id); err != nil && !client.IsNotFound(err) {
		w.t.Fatalf("delete %s: %v", id, err)
	}
	w.gone(id)
}

func (w *world) gone(id string) {
	w.t.Helper()
	eventually(w.t, longest, "the instance to be gone", func() bool {
		_, err := w.client.Instance(w.t.Context(), id)
		return client.IsNotFound(err)
	})
	w.guests.forget(id)
}

// attached is an attachment with its id, which is another one after each resize of the server.
var attached = regexp.MustCompile(`^volume attachment \S+ of`)

// everything is what the cloud has. Attachments have numbers instead of their ids.
func (w *world) everything() openstack.Inventory {
	w.t.Helper()
	all, seen := take(w.t, w.lab()), map[string]int{}
	for n, line := range all {
		if !attached.MatchString(line) {
			continue
		}
		of := attached.ReplaceAllString(line, "of")
		seen[of]++
		all[n] = fmt.Sprintf("volume attachment %d %s", seen[of], of)
	}
	slices.Sort(all)
	return all
}

// inventory is what the cloud has: all of it where nobody else uses the lab, else what names one of our instances or a thing that once did.
func (w *world) inventory() openstack.Inventory {
	w.t.Helper()
	all := w.everything()
	if w.alone {
		return all
	}
	for _, c := range w.proxies["taskmanager"].changed() { // what is not there any more, and may have left something
		for word := range strings.SplitSeq(c.Path, "/") {
			if trove.ValidID(word) {
				w.learn(word)
			}
		}
	}
	for _, line := range all {
		words := strings.Fields(line)
		for _, id := range w.known() {
			if !strings.Contains(line, id) {
				continue
			}
			for _, word := range words {
				if trove.ValidID(word) {
					w.learn(word)
				}
			}
		}
	}
	var own openstack.Inventory
	for _, line := range all {
		if slices.ContainsFunc(w.known(), func(id string) bool { return strings.Contains(line, id) || strings.HasPrefix(line, tapLine+id[:11]) }) {
			own = append(own, line)
		}
	}
	return own
}

// tapLine is how an inventory's line of the interface of a port begins: the kind, then the name, which has the first 11 characters of the port's id.
const tapLine = "tap " + "tap"

// learn remembers the id of an instance or a thing of one.
func (w *world) learn(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids[id] = true
}

func (w *world) known() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]string, 0, len(w.ids))
	for id := range w.ids {
		all = append(all, id)
	}
	return all
}

// settle is how long agents of the cloud may take to clean up after the API has forgotten something.
const settle = 90 * time.Second

// same checks that the cloud has what it had.
func (w *world) same(what string, before openstack.Inventory) bool {
	w.t.Helper()
	var difference []string
	for end := time.Now().Add(settle); ; time.Sleep(2 * time.Second) {
		difference = openstack.Difference(before, w.inventory())
		if len(difference) == 0 {
			return true
		}
		if time.Now().After(end) {
			break
		}
	}
	w.t.Errorf("%s: the cloud is not as it was (+ came, - went):\n%s", what, strings.Join(difference, "\n"))
	return false
}

// within has what goes wrong from here on be that of a part of the test.
func (w *world) within(t *testing.T) (back func()) {
	before := w.t
	w.t, w.service.t = t, t
	return func() { w.t, w.service.t = before, before }
}

// noCancel is a context for cleanups, when that of the test is over.
func noCancel(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

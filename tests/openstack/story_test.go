package openstack_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// story is one instance, which somebody of the project demo has by the official client.
type story struct {
	t       *testing.T
	cloud   *openstack.Cloud
	service *service
	demo    user
	machine *openstack.Machine // where the database's client runs
	engine  engine
	name    string
	id      string
	address string
	ca      string // file
	table   *timetable
}

// tell makes an instance, uses it, changes it and deletes it. Nothing of it is left in the cloud then.
func tell(t *testing.T, c *openstack.Cloud, s *service, e engine, long bool) {
	before := take(t, c)
	st := &story{t: t, cloud: c, service: s, demo: as(t, "demo"), engine: e, name: e.datastore + "-" + unique, table: newTimetable(t, e)}
	t.Run(e.datastore, func(t *testing.T) {
		st.t = t
		st.machine = tenantMachine(t, c)
		st.ca = filepath.Join(s.dir, "ca.pem")
		t.Cleanup(func() { st.whatGuestsSay() })
		st.create()
		st.stolenUserData()
		st.fetchCA()
		st.query(e.write, "")
		st.query(e.read, "kept")
		st.action("resize the volume to 2 GiB", "resize", "volume", st.name, "2")
		st.grown(2)
		st.query(e.read, "kept")
		st.action("restart", "restart", st.name)
		st.query(e.read, "kept")
		if long {
			st.action("resize to db.small", "resize", "flavor", st.name, flavor(t, st.demo, "db.small"))
			if servers := st.servers(); servers[0].Flavor.RAM != 768 {
				t.Errorf("the server has the flavor %s", servers[0].Flavor.Name)
			}
			st.query(e.read, "kept")
			st.public()
			st.portDeleted()
			if e.next != "" {
				st.action("rebuild to version "+e.next, "upgrade", st.name, e.next)
				st.query(e.read, "kept")
				st.query(e.versionQuery, e.next)
			}
		}
		st.delete()
	})
	st.table.print(t)
	nothingLeft(t, c, before)
}

// flavor is what the official client takes for a name that the service and Nova know.
func flavor(t *testing.T, u user, name string) string {
	t.Helper()
	for _, row := range u.table(t, "database", "flavor", "list") {
		if row["Name"] == name {
			return fmt.Sprint(row["ID"])
		}
	}
	t.Fatalf("the service has no flavor %s", name)
	return ""
}

func (st *story) servers() []openstack.Server {
	st.t.Helper()
	servers, err := st.cloud.Servers(st.t.Context(), "trove-"+st.id)
	if err != nil || len(servers) == 0 {
		st.t.Fatalf("servers of instance %s: %v %v", st.id, servers, err)
	}
	return servers
}

// create measures from the request, as the service wrote it down, to the login.
func (st *story) create() {
	st.t.Helper()
	e := st.engine
	network := fmt.Sprint(st.demo.thing(st.t, "network", "show", "tenant")["id"])
	asked := st.service.asked()
	made := st.demo.thing(st.t, "database", "instance", "create", st.name, "--flavor", flavor(st.t, st.demo, "db.tiny"), "--size", "1",
		"--datastore", e.datastore, "--datastore-version", e.version, "--databases", "shop", "--users", "anna:"+e.password, "--nic", "net-id="+network)
	st.id = fmt.Sprint(made["id"])
	if made["status"] != "BUILD" || st.id == "" {
		st.t.Fatalf("create: %v", made)
	}
	watch := watchServer(st.t, st.cloud, "trove-"+st.id)
	st.reached("machine")
	asked = st.service.asked() - asked
	op := st.finish("instance.create")
	i, err := st.service.client("demo").Instance(st.t.Context(), st.id)
	if err != nil || len(i.Addresses) == 0 {
		st.t.Fatalf("addresses of %s: %v %v", st.id, i.Addresses, err)
	}
	st.address = i.Addresses[0].Address
	eventually(st.t, time.Minute, "the tenant's machine to reach the database", func() bool {
		conn, err := st.machine.Dial(st.t.Context(), st.address+":"+e.port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	st.table.create(op, time.Now(), watch(), asked)
	shown := st.demo.thing(st.t, "database", "instance", "show", st.name)
	if shown["status"] != "ACTIVE" || shown["operating_status"] != "HEALTHY" {
		st.t.Fatalf("show: status %v, operating status %v", shown["status"], shown["operating_status"])
	}
}

// grown asks Cinder for the size of the volume, and the service for what the guest sees of it.
func (st *story) grown(gib int) {
	st.t.Helper()
	volumes, err := st.cloud.Volumes(st.t.Context(), "trove-"+st.id)
	if err != nil || len(volumes) != 1 || volumes[0].Size != gib {
		st.t.Errorf("volumes of the instance: %v %v, want one of %d GiB", volumes, err, gib)
	}
	eventually(st.t, time.Minute, "the guest to see the larger volume", func() bool {
		have, err := st.service.client("demo").Storage(st.t.Context(), st.id)
		return err == nil && have.Used != nil && have.UsedPercent != nil && *have.Used / *have.UsedPercent * 100 > float64(gib)*0.85
	})
}

// fetchCA gets the authorities by which a client verifies the database.
func (st *story) fetchCA() {
	st.t.Helper()
	rc, err := openstack.ReadRC(filepath.Join(state, "demorc"))
	if err != nil {
		st.t.Fatal(err)
	}
	pem := st.service.troveAs(rc, "ssl", "ca", st.name)
	if err := os.WriteFile(st.ca, []byte(pem), 0o600); err != nil {
		st.t.Fatal(err)
	}
}

// query runs a statement with the engine's own client on the tenant's machine, over TLS that it verifies.
func (st *story) query(statement, want string) {
	st.t.Helper()
	if said, err := st.says(statement); err != nil || !strings.Contains(said, want) {
		st.t.Fatalf("%s: %v, want %q:\n%s", statement, err, want, said)
	}
}

func (st *story) says(statement string) (string, error) {
	ctx, cancel := context.WithTimeout(st.t.Context(), time.Minute)
	defer cancel()
	said, err := st.engine.client(ctx, st, statement).CombinedOutput()
	return string(said), err
}

// action runs a command of the official client and waits until the instance is ACTIVE again.
func (st *story) action(what string, args ...string) {
	st.t.Helper()
	st.demo.run(st.t, append([]string{"database", "instance"}, args...)...)
	op := st.finish("")
	st.table.add(what, op)
	if shown := st.demo.thing(st.t, "database", "instance", "show", st.name); shown["status"] != "ACTIVE" {
		st.t.Fatalf("%s: status %v", what, shown["status"])
	}
}

// reached waits until the newest operation is at a step, or over.
func (st *story) reached(step string) {
	st.t.Helper()
	eventually(st.t, 2*time.Minute, "the operation to be at the step "+step, func() bool {
		ops, err := st.service.client("demo").Operations(st.t.Context(), st.id)
		return err == nil && len(ops) > 0 && (ops[0].Step == step || ops[0].State != "open")
	})
}

// finish waits for the newest operation, of that kind if one is given.
func (st *story) finish(kind string) wire.Operation {
	st.t.Helper()
	c, ctx := st.service.client("demo"), st.t.Context()
	ops, err := c.Operations(ctx, st.id)
	if err != nil || len(ops) == 0 || kind != "" && ops[0].Kind != kind {
		st.t.Fatalf("operations of %s: %v %v", st.id, ops, err)
	}
	op := ops[0]
	for said := ""; op.State == "open"; {
		if op, err = c.Operation(ctx, st.id, op.ID, op.Version, 30*time.Second); err != nil {
			st.t.Fatalf("wait for %s: %v", op.Kind, err)
		}
		if op.Sentence != said {
			said = op.Sentence
			st.t.Logf("%s %s: %s: %s", time.Now().Format("15:04:05"), op.Kind, op.Step, said)
		}
	}
	if op.State != "done" {
		st.t.Fatalf("%s: %s: %s", op.Kind, op.State, op.Error)
	}
	if op, err = c.Operation(ctx, st.id, op.ID, 0, 0); err != nil { // with its timeline
		st.t.Fatal(err)
	}
	return op
}

func (st *story) delete() {
	st.t.Helper()
	begin := time.Now()
	st.demo.run(st.t, "database", "instance", "delete", st.name)
	eventually(st.t, 3*time.Minute, "the instance to be gone", func() bool {
		for _, row := range st.demo.table(st.t, "database", "instance", "list") {
			if row["ID"] == st.id {
				return false
			}
		}
		return true
	})
	st.table.row("delete", time.Since(begin), "")
	st.id = ""
}

// whatGuestsSay shows the console of an instance that is still there when a test has failed, and deletes it.
func (st *story) whatGuestsSay() {
	if st.id == "" {
		return
	}
	ctx := context.WithoutCancel(st.t.Context())
	if servers, err := st.cloud.Servers(ctx, "trove-"+st.id); err == nil && st.t.Failed() {
		for _, server := range servers {
			console, _ := st.cloud.Console(ctx, server.ID)
			st.t.Logf("server %s is %s %s %s; its console:\n%s", server.ID, server.Status, server.TaskState, server.Fault.Message, console)
		}
	}
	if out, complaint, err := st.demo.try("database", "instance", "delete", st.id); err != nil {
		st.t.Logf("delete: %v %s%s", err, out, complaint)
		return
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if _, _, err := st.demo.try("database", "instance", "show", st.id); err != nil {
			return
		}
	}
	st.t.Log("the instance is still there two minutes after its delete")
}

package openstack_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the database of the Python Trove

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// old is an instance of a Python Trove, as that has made it: its row, and in the service project a server, a volume, two ports and a security group. The server has no
// system; what its container would have written is on the volume.
type old struct {
	t        *testing.T
	cloud    *openstack.Cloud
	id, name string
	server   string
	volume   string
	port     string // on the tenant's network
	address  string
	group    string
}

// thing is what the services say of what they have.
type thing struct {
	ID, Name, Status string
	Size             int
	Device           string          `json:"device_id"`
	Description      string          `json:"description"`
	Groups           json.RawMessage `json:"security_groups"` // Neutron has ids, Nova more
	Tags             []string
	Metadata         map[string]string
	FixedIPs         []struct {
		Address string `json:"ip_address"`
	} `json:"fixed_ips"`
	Attachments []struct {
		Server string `json:"server_id"`
		Device string
	}
}

// fields is the body of a request.
type fields map[string]any

// ask is a request of the Python Trove's account, which must succeed. It returns what the answer has under a name.
func (o *old) ask(method, service, path string, body any, key string) thing {
	o.t.Helper()
	var answer map[string]thing
	if err := o.try(method, service, path, body, &answer); err != nil {
		o.t.Fatal(err)
	}
	return answer[key]
}

func (o *old) try(method, service, path string, body, into any) error {
	return o.cloud.Ask(context.WithoutCancel(o.t.Context()), method, "service", service, path, body, into)
}

// first returns the id of the only thing of a list.
func (o *old) first(service, path, key string) string {
	o.t.Helper()
	var answer map[string]json.RawMessage // Glance has more in it than the list
	var all []struct{ ID string }
	err := o.try(http.MethodGet, service, path, nil, &answer)
	if err == nil {
		err = json.Unmarshal(answer[key], &all)
	}
	if err != nil || len(all) != 1 {
		o.t.Fatalf("%s%s: %v, %v; want one", service, path, all, err)
	}
	return all[0].ID
}

// layOut makes what the taskmanager of a Python Trove makes, in its order and with its names, and lets the volume have the content of a file. What of it is there at the test's
// end goes then.
func layOut(t *testing.T, c *openstack.Cloud, name, content string) *old {
	t.Helper()
	o := &old{t: t, cloud: c, id: trove.NewID(), name: name}
	remove := func(service, path string) {
		t.Cleanup(func() { _ = o.try(http.MethodDelete, service, path, nil, nil) }) // most of it is gone by then
	}
	group := fields{"name": "trove_sg-" + o.id, "description": "Security group for trove instance " + o.id}
	o.group = o.ask(http.MethodPost, "network", "/v2.0/security-groups", fields{"security_group": group}, "security_group").ID
	remove("network", "/v2.0/security-groups/"+o.group)
	port := func(network, kind string) thing {
		p := o.ask(http.MethodPost, "network", "/v2.0/ports", fields{"port": fields{
			"name": "trove-" + o.id, "description": kind + " port for trove instance " + o.id, "security_groups": []string{o.group},
			"network_id": o.first("network", "/v2.0/networks?name="+network, "networks"),
		}}, "port")
		remove("network", "/v2.0/ports/"+p.ID)
		return p
	}
	management, user := port("trove-management", "Management"), port("tenant", "User")
	o.port, o.address = user.ID, user.FixedIPs[0].Address
	o.volume = o.ask(http.MethodPost, "block-storage", "/volumes", fields{"volume": fields{
		"name": "trove-" + o.id, "description": "datastore volume for " + o.id, "size": 1,
	}}, "volume").ID
	remove("block-storage", "/volumes/"+o.volume+"?cascade=true")
	eventually(t, time.Minute, "the volume", func() bool { return o.volumeNow().Status == "available" })
	o.convert("-O", "raw", "-n", content, o.rbd())
	o.server = o.ask(http.MethodPost, "compute", "/servers", fields{"server": fields{
		"name": name, "imageRef": o.first("image", "/v2/images?name=lab-tiny", "images"), "flavorRef": o.flavor("lab.tiny"),
		"networks": []fields{{"port": user.ID}, {"port": management.ID}}, "config_drive": true,
		"metadata": fields{"trove_project_id": c.Project("demo"), "trove_instance_id": o.id},
		"block_device_mapping_v2": []fields{
			{"boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": o.first("image", "/v2/images?name=lab-tiny", "images"), "delete_on_termination": true},
			{"source_type": "volume", "destination_type": "volume", "uuid": o.volume, "device_name": "vdb", "volume_size": 1, "delete_on_termination": true},
		},
	}}, "server").ID
	t.Cleanup(func() {
		_ = o.try(http.MethodDelete, "compute", "/servers/"+o.server, nil, nil)
		eventually(t, 2*time.Minute, "the old server to be gone", func() bool { return o.try(http.MethodGet, "compute", "/servers/"+o.server, nil, nil) != nil })
	})
	eventually(t, 3*time.Minute, "the old server", func() bool { return o.serverNow().Status == "ACTIVE" })
	return o
}

func (o *old) serverNow() thing {
	o.t.Helper()
	return o.ask(http.MethodGet, "compute", "/servers/"+o.server, nil, "server")
}

func (o *old) volumeNow() thing {
	o.t.Helper()
	return o.ask(http.MethodGet, "block-storage", "/volumes/"+o.volume, nil, "volume")
}

// flavor is the id of one of Nova's.
func (o *old) flavor(name string) string {
	o.t.Helper()
	var answer struct{ Flavors []thing }
	if err := o.try(http.MethodGet, "compute", "/flavors", nil, &answer); err != nil {
		o.t.Fatal(err)
	}
	n := slices.IndexFunc(answer.Flavors, func(f thing) bool { return f.Name == name })
	if n < 0 {
		o.t.Fatalf("Nova has no flavor %s", name)
	}
	return answer.Flavors[n].ID
}

// rbd is the volume as Cinder keeps it.
func (o *old) rbd() string {
	return "rbd:volumes/volume-" + o.volume + ":conf=" + filepath.Join(state, "etc/ceph/ceph.conf")
}

func (o *old) convert(args ...string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "qemu-img", append([]string{"convert", "-f", "raw"}, args...)...).CombinedOutput(); err != nil {
		o.t.Fatalf("qemu-img convert: %v: %s", err, out)
	}
}

// isOld fails unless the cloud has all of it as the Python Trove has made it.
func (o *old) isOld() {
	o.t.Helper()
	if s := o.serverNow(); s.Status != "ACTIVE" || s.Name != o.name {
		o.t.Errorf("the old server is %+v", s)
	}
	v := o.volumeNow()
	if v.Name != "trove-"+o.id || v.Status != "in-use" || len(v.Attachments) != 1 || v.Attachments[0].Server != o.server || v.Attachments[0].Device != "/dev/vdb" || len(v.Metadata) > 0 {
		o.t.Errorf("the volume is %+v", v)
	}
	p := o.ask(http.MethodGet, "network", "/v2.0/ports/"+o.port, nil, "port")
	if p.Name != "trove-"+o.id || p.Description != "User port for trove instance "+o.id || p.Device != o.server || p.FixedIPs[0].Address != o.address ||
		string(p.Groups) != `["`+o.group+`"]` || len(p.Tags) > 0 {
		o.t.Errorf("the port is %+v", p)
	}
}

// container is what the container of a Python Trove is called with, and what its files depend on.
type container struct {
	engine
	tables   []string // makes the system tables
	server   string
	settings string // of Trove's template, as far as the files depend on them
}

func mariadbContainer(e engine) container {
	return container{
		engine: e, server: "/usr/sbin/mariadbd",
		tables:   []string{"/usr/bin/mariadb-install-db", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--force"},
		settings: "innodb_log_file_size = 50M\ninnodb_log_files_in_group = 2\n",
	}
}

func mysqlContainer(e engine) container {
	return container{engine: e, tables: []string{"/usr/sbin/mysqld", "--initialize-insecure"}, server: "/usr/sbin/mysqld", settings: "mysqlx = OFF\n"}
}

// account is that of the database in the container.
const account = 1001

// inContainer runs a program in a root file system, which it cannot change, as the container's account. The directory is at /run/work there.
const inContainer = `set -eu
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc none "$root/proc"
mount --rbind /dev "$root/dev"
mkdir "$root/run/work"
mount --bind "$work" "$root/run/work"
exec chroot --userspec=1001:1001 "$root" "$@"
`

// run starts the server with statements that it runs before anybody else could, and that end it.
func (k container) run(t *testing.T, root, work string, statements ...string) {
	t.Helper()
	first := filepath.Join(work, "first.sql")
	if err := os.WriteFile(first, []byte(strings.Join(append(statements, "SHUTDOWN;\n"), ";\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(first, account, account); err != nil {
		t.Fatal(err)
	}
	k.program(t, root, work, k.server, "--defaults-file=/run/work/my.cnf", "--init-file=/run/work/first.sql")
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
}

func (k container) program(t *testing.T, root, work string, line ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args := append([]string{"--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", inContainer, "container", root, work}, line...)
	cmd := exec.CommandContext(ctx, "/usr/bin/unshare", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line[0], err, out)
	}
}

// prepare makes a directory that a container can work in, with the settings.
func (k container) prepare(t *testing.T) string {
	t.Helper()
	work := t.TempDir()
	settings := "[mysqld]\nbasedir = /usr\ndatadir = /run/work/data\ntmpdir = /tmp\nsocket = /run/work/socket\npid_file = /run/work/pid\nskip_networking\nsecure_file_priv = /run/work\n" +
		"innodb_data_file_path = ibdata1:10M:autoextend\ninnodb_file_per_table = 1\ndefault_storage_engine = innodb\n" + k.settings
	if err := os.WriteFile(filepath.Join(work, "my.cnf"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(work, account, account); err != nil {
		t.Fatal(err)
	}
	return work
}

// volume makes the content of a volume as the container leaves it: a file system of this kind with the data directory, and the files with the passwords of Trove's own accounts.
func (k container) volume(t *testing.T, root, kind string) string {
	t.Helper()
	work, admin := k.prepare(t), rand.Text()
	tree := filepath.Join(work, "tree")
	for _, dir := range []string{tree, filepath.Join(tree, "conf.d"), filepath.Join(work, "data")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, account, account); err != nil {
			t.Fatal(err)
		}
	}
	k.program(t, root, work, append([]string{k.tables[0], "--defaults-file=/run/work/my.cnf"}, k.tables[1:]...)...)
	k.run(t, root, work, "DROP USER IF EXISTS ''@localhost", "DROP USER IF EXISTS root@'127.0.0.1'", "DROP USER IF EXISTS root@'::1'",
		"ALTER USER root@localhost IDENTIFIED BY '"+admin+"'",
		"CREATE USER os_admin@localhost IDENTIFIED BY '"+admin+"'", "GRANT ALL ON *.* TO os_admin@localhost WITH GRANT OPTION",
		"CREATE DATABASE shop", "CREATE TABLE shop.t (v TEXT)", "INSERT INTO shop.t VALUES ('kept')",
		"CREATE USER anna@'%' IDENTIFIED BY '"+k.password+"'", "GRANT ALL ON shop.* TO anna@'%'")
	for _, user := range []string{"root", "os_admin"} {
		text := "[client]\nuser = " + user + "\npassword = " + admin + "\nhost = localhost\n"
		if err := os.WriteFile(filepath.Join(tree, "conf.d", user+".cnf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(work, "data"), filepath.Join(tree, "data")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(work, "volume")
	out, err := exec.CommandContext(t.Context(), "mke2fs", "-q", "-t", kind, "-m", "5", "-d", tree, file, "1G").CombinedOutput()
	if err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return file
}

// rows reads the tenant's table as the container would find it on the volume, and whether the passwords of Trove's own accounts are there.
func (k container) rows(t *testing.T, root string, o *old) (rows []string, passwords bool) {
	t.Helper()
	work := k.prepare(t)
	file := filepath.Join(work, "volume")
	o.convert("-O", "raw", o.rbd(), file)
	for _, what := range []string{"rdump /data " + work, "rdump /conf.d " + work} {
		if out, err := exec.CommandContext(t.Context(), "debugfs", "-R", what, file).CombinedOutput(); err != nil {
			t.Fatalf("debugfs: %v: %s", err, out)
		}
	}
	found, _ := filepath.Glob(filepath.Join(work, "conf.d", "*.cnf"))
	k.run(t, root, work, "SELECT v FROM shop.t ORDER BY v INTO OUTFILE '/run/work/rows'")
	text, err := os.ReadFile(filepath.Join(work, "rows"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text)), len(found) == 2
}

// database is that of the Python Trove, with these instances and a configuration group that they share. It returns the URL that import-trove reads.
func (k container) database(t *testing.T, c *openstack.Cloud, all ...*old) string {
	t.Helper()
	schema, err := os.ReadFile(filepath.Join(repository, "internal/troveimport/testdata/trove18.sql"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trove.sqlite")
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	run := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for statement := range strings.SplitSeq(string(schema), ";\n") {
		if strings.Contains(statement, "CREATE TABLE") { // its content is that of another test
			run(statement)
		}
	}
	datastore, version, group := trove.NewID(), trove.NewID(), trove.NewID()
	run("INSERT INTO datastores (id, name, default_version_id) VALUES (?, ?, ?)", datastore, k.datastore, version)
	run("INSERT INTO datastore_versions (id, datastore_id, name, image_id, packages, active, manager, version) VALUES (?, ?, ?, ?, '', 1, ?, ?)",
		version, datastore, k.version, trove.NewID(), k.datastore, k.version)
	now := time.Now().UTC().Format(time.DateTime)
	run("INSERT INTO configurations (id, name, tenant_id, datastore_version_id, deleted, created, updated) VALUES (?, ?, ?, ?, 0, ?, ?)",
		group, "busy-"+unique, c.Project("demo"), version, now, now)
	run("INSERT INTO datastore_configuration_parameters (id, name, datastore_version_id, restart_required, data_type) VALUES (?, 'max_connections', ?, 0, 'integer')", trove.NewID(), version)
	run("INSERT INTO configuration_parameters (configuration_id, configuration_key, configuration_value, deleted) VALUES (?, 'max_connections', '77', 0)", group)
	for _, o := range all {
		run(`INSERT INTO instances (id, created, updated, name, hostname, compute_instance_id, task_id, task_description, volume_id, flavor_id, volume_size, tenant_id,
server_status, deleted, datastore_version_id, configuration_id, access) VALUES (?, ?, ?, ?, ?, ?, 1, 'No tasks for the instance.', ?, ?, 1, ?, 'ACTIVE', 0, ?, ?, ?)`,
			o.id, now, now, o.name, o.name, o.server, o.volume, o.flavor("db.tiny"), c.Project("demo"), version, group, `{"is_public": false, "allowed_cidrs": []}`)
	}
	return fmt.Sprintf("sqlite:///%s", file)
}

package cli_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/client/cli"
)

var update = flag.Bool("update", false, "write the golden files and docs/cli.md anew")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./client/cli -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", path, diff)
	}
}

// stories are calls of every verb. Those that end in a format are shown in all of them.
var stories = withFigures(map[string][]string{
	"instance_list":          {"instance list -f *", "instance list -c name -c STATUS -c size -f *", "instance list --all-projects -f csv", "instance list --project-id p -c name -f value"},
	"instance_show":          {"instance show shop -f *", "instance show " + oldID + " -f *", "instance show shop -c status -c addresses -f *"},
	"instance_create":        {"instance create shop --flavor db.small --size 20 --volume-type fast --datastore mariadb --datastore-version 10.11 --database orders --database invoices --user app@10.0.0.7 --user b --password-file - --network n --subnet s --availability-zone z --is-public --allowed-cidr 10.0.0.0/8,192.0.2.7/32", "instance create shop --flavor 1 --wait", "instance create shop --flavor 1 --backup nightly --module licence", "instance create shop --flavor 1 --configuration busy -f value"},
	"instance_update":        {"instance update shop --name laden", "instance update shop --is-private --allowed-cidr 10.0.0.0/8 --wait", "instance update shop --configuration busy", "instance update shop --remove-configuration"},
	"instance_delete":        {"instance delete shop " + oldID, "instance delete shop --wait", "instance delete shop --force"},
	"instance_upgrade":       {"instance upgrade shop --datastore-version 11.8 --check", "instance upgrade shop", "instance upgrade shop --datastore-version 11.8 --wait", "instance upgrade shop --rollback", "instance upgrade shop --confirm"},
	"instance_restart":       {"instance restart shop", "instance restart shop --wait"},
	"instance_reboot":        {"instance reboot shop --wait"},
	"instance_rebuild":       {"instance rebuild shop " + opID},
	"instance_stop":          {"instance stop shop", "instance stop shop --wait"},
	"instance_start":         {"instance start shop", "instance start shop --wait"},
	"instance_resize_flavor": {"instance resize flavor shop db.small"},
	"instance_resize_volume": {"instance resize volume shop 30"},
	"instance_reset-status":  {"instance reset-status shop"},
	"instance_events":        {"instance events shop -f *", "instance events " + shopID + " -c details -f value"},
	"agent_list":             {"agent list -f *"},
	"audit_list":             {"audit list -f *", "audit list --user ada --outcome failure --since 2026-01-02T03:04:05Z --limit 5"},
	"agent_upgrade":          {"agent upgrade shop", "agent upgrade --all --release 1.3.0 --healthy-within 30"},
	"mgmt_list":              {"mgmt list -f *", "mgmt list --living --project-id q -c name -f value"},
	"mgmt_show":              {"mgmt show shop -f *", "mgmt show " + oldID + " --deleted -c deleted_at -f value"},
	"mgmt_stop":              {"mgmt stop shop"},
	"mgmt_reboot":            {"mgmt reboot shop", "mgmt reboot shop --wait"},
	"mgmt_rebuild":           {"mgmt rebuild shop " + opID},
	"mgmt_migrate":           {"mgmt migrate shop", "mgmt migrate shop --host h2"},
	"mgmt_reset-task":        {"mgmt reset-task " + shopID},
	"mgmt_root":              {"mgmt root shop -f *"},
	"mgmt_ping":              {"mgmt ping shop"},
	"mgmt_hwinfo":            {"mgmt hwinfo shop -f *"},
	"mgmt_diagnostics":       {"mgmt diagnostics shop -f *"},
	"ssl_show":               {"ssl show shop -f *", "ssl show shop --include-certificate -c certificate -f value"},
	"ssl_ca":                 {"ssl ca shop"},
	"ssl_enable":             {"ssl enable shop --mode enforced", "ssl enable shop --certificate testdata/pem.txt --private-key testdata/pem.txt --ca-certificates testdata/pem.txt --mode mtls"},
	"ssl_disable":            {"ssl disable shop"},
	"ssl_rollback":           {"ssl rollback shop"},
	"operation_list":         {"operation list shop -f *"},
	"operation_show":         {"operation show shop " + opID + " -f *"},
	"operation_cancel":       {"operation cancel shop " + opID},
	"database_list":          {"database list shop -f *"},
	"database_create":        {"database create shop lager --character-set utf8mb4 --collate utf8mb4_bin"},
	"database_delete":        {"database delete shop orders"},
	"user_list":              {"user list shop -f *"},
	"user_show":              {"user show shop app@10.0.0.7 -f *"},
	"user_create":            {"user create shop app@10.0.0.7 --database orders --database invoices --password-file -"},
	"user_update":            {"user update shop app --name web --host 10.0.0.8 --password-file -"},
	"user_delete":            {"user delete shop app@10.0.0.7"},
	"user_grant":             {"user grant shop app@10.0.0.7 orders invoices"},
	"user_revoke":            {"user revoke shop app orders"},
	"root_show":              {"root show shop -f *"},
	"root_enable":            {"root enable shop", "root enable shop --password-file -"},
	"root_disable":           {"root disable shop"},
	"log_list":               {"log list shop -f *"},
	"log_show":               {"log show shop error -f *"},
	"log_enable":             {"log enable shop general"},
	"log_disable":            {"log disable shop general"},
	"log_publish":            {"log publish shop error"},
	"log_discard":            {"log discard shop error"},
	"log_objects":            {"log objects shop error -f *"},
	"log_cat":                {"log cat shop error"},
	"log_save":               {"log save shop error --file /dev/null"},
	"datastore_list":         {"datastore list -f *"},
	"datastore_show":         {"datastore show mariadb -f *"},
	"datastore_version_list": {"datastore version list mariadb -f *"},
	"datastore_version_show": {"datastore version show mariadb 10.11 -f *"},
	"flavor_list":            {"flavor list -f *"},
	"flavor_show":            {"flavor show db.small -f *"},
	"limits_list":            {"limits list -f *"},
	"host_status":            {"host status -f *"},
	"quota_show":             {"quota show -f *", "quota show other -f value"},
	"backup_list": {
		"backup list -f *", "backup list instance shop", "backup list -i shop --datastore mariadb --all-projects --limit 1 --marker 1",
	},
	"backup_show": {"backup show nightly -f *", "backup show " + backupID + " -f *"},
	"backup_create": {
		"backup create b -i shop --description d --parent nightly --swift-container box --storage-driver swift",
		"backup create b -i shop --incremental -f json",
		"backup create b --restore-from http://x/c/o --restore-datastore-version v-1 --restore-size 1.5",
	},
	"backup_delete":          {"backup delete nightly " + backupID},
	"backup_strategy_list":   {"backup strategy list -f *", "backup strategy list --instance-id " + shopID + " --project-id q"},
	"backup_strategy_create": {"backup strategy create --swift-container box", "backup strategy create --instance-id " + shopID + " --swift-container box"},
	"backup_strategy_delete": {"backup strategy delete", "backup strategy delete --instance-id " + shopID + " --project-id q"},
	"module_list":            {"module list -f *", "module list --datastore mariadb"},
	"module_show":            {"module show licence -f *"},
	"module_create": {
		"module create licence new_relic_license - --description d --datastore mariadb --datastore-version 10.11 --live-update --apply-order 3",
		"module create licence ping - --auto-apply --all-tenants --hidden --priority-apply --full-access=false",
	},
	"module_update": {
		"module update licence --name l --type ping --file -", "module update licence --hidden=false --live-update=false --all-datastores --all-datastore-versions",
	},
	"module_delete":         {"module delete licence"},
	"module_instances":      {"module instances licence -f *", "module instances licence --include-clustered"},
	"module_instance-count": {"module instance-count licence -f *"},
	"module_reapply":        {"module reapply licence", "module reapply licence --md5 a --include-clustered --batch-size 2 --delay 3 --force"},
	"module_apply":          {"module apply shop licence"},
	"module_remove":         {"module remove shop licence"},
	"module_list-instance":  {"module list-instance shop -f *"},
	"cluster_list":          {"cluster list -f *", "cluster list instances galera -f *"},
	"cluster_show":          {"cluster show galera -f *"},
	"cluster_create": {
		"cluster create galera mariadb 10.11 --instance flavor=db.small,volume=10,volume_type=fast,network=n,availability_zone=z,type=t,related_to=r,module=licence" +
			" --instance flavor=1,volume=10,name=x --locality affinity --extended-properties num_mongos=1 --configuration g",
	},
	"cluster_delete":               {"cluster delete galera"},
	"cluster_force_delete":         {"cluster force delete galera"},
	"cluster_grow":                 {"cluster grow galera --instance flavor=db.small,volume=10"},
	"cluster_shrink":               {"cluster shrink galera galera-1 " + oldID},
	"cluster_upgrade":              {"cluster upgrade galera 11.8"},
	"cluster_restart":              {"cluster restart galera"},
	"cluster_reset_status":         {"cluster reset status galera"},
	"cluster_modules":              {"cluster modules galera -f *"},
	"quota_update":                 {"quota update other instances -1"},
	"configuration_list":           {"configuration list -f *"},
	"configuration_show":           {"configuration show busy -f *", "configuration show " + groupID + " -c values -f value"},
	"configuration_create":         {`configuration create busy {"max_connections":500} --datastore mariadb --datastore-version 10.11 --datastore-version-number 10.11.6 --description many`, "configuration create busy - --datastore mariadb"},
	"configuration_set":            {`configuration set busy {"max_connections":400} --name calm --description few`},
	"configuration_update":         {`configuration update busy {"wait_timeout":60}`},
	"configuration_delete":         {"configuration delete busy"},
	"configuration_attach":         {"configuration attach shop busy"},
	"configuration_detach":         {"configuration detach shop"},
	"configuration_instances":      {"configuration instances busy -f *"},
	"configuration_default":        {"configuration default shop -f *"},
	"configuration_parameter_list": {"configuration parameter list 10.11 --datastore mariadb -f *", "configuration parameter list v-1"},
	"configuration_parameter_show": {"configuration parameter show 10.11 max_connections --datastore mariadb -f *"},
	"configuration_parameter_set":  {`configuration parameter set busy {"wait_timeout":60}`},
	"datastore_version_create":     {"datastore version create 10.11-new maria mariadb image-1 --active false --default true --image-tags a,b --version-number 10.11.9 --require-tls"},
	"datastore_version_set":        {"datastore version set v-1 --datastore-manager mariadb --image image-2 --image-tags x --version-name new --enable --default", "datastore version set v-1 --disable --non-default", "datastore version set v-1 --require-tls", "datastore version set v-1 --optional-tls"},
	"datastore_delete":             {"datastore delete mysql"},
	"datastore_version_delete":     {"datastore version delete v-1"},
})

func TestVerbs(t *testing.T) {
	for name, calls := range stories {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			for _, call := range calls {
				before, all := strings.CutSuffix(call, "*")
				if !all {
					tell(t, &out, call)
					continue
				}
				for _, format := range []string{"table", "json", "yaml", "csv", "value"} {
					tell(t, &out, before+format)
				}
			}
			golden(t, filepath.Join("testdata", name+".txt"), out.String())
		})
	}
}

// tell writes down one call with what it asks and prints.
func tell(t *testing.T, out *strings.Builder, call string) {
	t.Helper()
	api := newFakeAPI()
	s := newShell(api)
	s.stdin = "s3cret pass\n"
	if strings.HasPrefix(call, "configuration") {
		s.stdin = `{"max_connections": 18446744073709551615}`
	}
	err := s.run(t, strings.Fields(call)...)
	fmt.Fprintf(out, "$ trove %s\n", call)
	for _, c := range api.asked() {
		fmt.Fprintf(out, "request: %s\n", c)
	}
	fmt.Fprint(out, s.stdout.String())
	for line := range strings.Lines(s.stderr.String()) {
		fmt.Fprint(out, "stderr: ", line)
	}
	if message, code := cli.Explain(err); err != nil {
		t.Errorf("trove %s: exit %d: %s", call, code, message)
	}
	fmt.Fprintln(out)
}

func TestEveryVerbHasAStoryAndAnExample(t *testing.T) {
	tested := map[string]bool{"instance_connect": true, "module_retrieve": true} // TestConnect, TestRetrieveModules
	for name := range stories {
		tested[name] = true
	}
	eachVerb(newShell(newFakeAPI()).command(), func(c *cobra.Command) {
		name := strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "trove "), " ", "_")
		if !tested[name] {
			t.Errorf("no story calls %q", c.CommandPath())
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%q has no example of its own: %q", c.CommandPath(), c.Example)
		}
	})
}

func eachVerb(c *cobra.Command, f func(*cobra.Command)) {
	if !c.HasSubCommands() {
		f(c)
	}
	for _, sub := range c.Commands() {
		eachVerb(sub, f)
	}
}

// drawTable is the openstack client's own code for tables.
const drawTable = `
import argparse, io, json, sys
from cliff.formatters import table
d = json.load(sys.stdin)
f = table.TableFormatter()
p = argparse.ArgumentParser()
f.add_argument_group(p)
o = io.StringIO()
if "one" in d:
    f.emit_one(d["columns"], d["one"], o, p.parse_args([]))
else:
    f.emit_list(d["columns"], d["rows"], o, p.parse_args([]))
sys.stdout.buffer.write(o.getvalue().encode())
`

func TestTablesAreThoseOfTheOpenstackClient(t *testing.T) {
	const python = "/usr/bin/python3" // the distribution's, which the openstack client runs in
	if err := exec.Command(python, "-c", "import cliff.formatters").Run(); err != nil {
		t.Skip("python3-cliff, the openstack client's output code, is not installed")
	}
	draw := func(data map[string]any) string {
		in, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(python, "-c", drawTable)
		cmd.Stdin = strings.NewReader(string(in))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	s := newShell(newFakeAPI())
	list := draw(map[string]any{
		"columns": []string{"Name", "Datastore", "Operating Status", "Public", "Addresses", "Size", "Role"},
		"rows": [][]any{
			{"shop", "mariadb", "HEALTHY", true, "10.0.0.5, 198.51.100.5:20017", 20, "primary"},
			{"altes Lager", "", "", false, "", 5, ""},
		},
	})
	got := s.must(t, "instance", "list", "-c", "name,datastore,operating_status,public,addresses,size,role")
	if diff := cmp.Diff(list, got); diff != "" {
		t.Errorf("list: -openstack +trove\n%s", diff)
	}
	show := draw(map[string]any{
		"columns": []string{"name", "volume", "volume_used", "public"}, "one": []any{"altes Lager", 5, nil, false},
	})
	if diff := cmp.Diff(show, s.must(t, "instance", "show", oldID, "-c", "name,volume,volume_used,public")); diff != "" {
		t.Errorf("show: -openstack +trove\n%s", diff)
	}
	limits := draw(map[string]any{
		"columns": []string{"Limit", "Value", "Remaining"}, "rows": [][]any{{"instances", 10, nil}, {"ram (MiB)", -1, nil}, {"POST * per minute", 200, 199}},
	})
	if diff := cmp.Diff(limits, s.must(t, "limits", "list")); diff != "" {
		t.Errorf("limits: -openstack +trove\n%s", diff)
	}
	empty := newShell(emptyList{})
	if diff := cmp.Diff(draw(map[string]any{"columns": []string{"ID"}, "rows": [][]any{}}), empty.must(t, "flavor", "list")); diff != "" {
		t.Errorf("nothing: -openstack +trove\n%s", diff)
	}
}

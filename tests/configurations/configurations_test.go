package configurations_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// TestVariablesAreThereWhenTheAnswerComes is what tempest's test_configuration does.
func TestVariablesAreThereWhenTheAnswerComes(t *testing.T) {
	w := newWorld(t)
	w.prepared(nil)
	before := w.variable("max_connections")
	group := w.newGroup(`{"max_connections":555}`)
	w.attach(`"` + group + `"`)
	w.wantVariable("attached", "max_connections", "555")
	if body := w.must(http.StatusOK, http.MethodGet, "/configurations/"+group+"/instances", ""); body != `{"instances":[{"id":"`+instanceID+`","name":"shop"}]}` {
		t.Errorf("the group's instances are %s", body)
	}
	w.must(http.StatusOK, http.MethodPatch, "/configurations/"+group, `{"configuration":{"values":{"max_connections":666}}}`)
	w.wantVariable("changed", "max_connections", "666")
	w.must(http.StatusAccepted, http.MethodPut, "/configurations/"+group, `{"configuration":{"values":{"wait_timeout":77,"max_connections":444}}}`)
	w.wantVariable("replaced", "wait_timeout", "77")
	w.long("op/restart", guestapi.CmdRestart, nil)
	w.wantVariable("after a restart", "max_connections", "444")
	w.must(http.StatusAccepted, http.MethodPut, "/configurations/"+group, `{"configuration":{"values":{"wait_timeout":78}}}`)
	w.wantVariable("dropped", "max_connections", before)
	w.attach("null")
	w.wantVariable("detached", "wait_timeout", "28800")
	w.must(http.StatusAccepted, http.MethodDelete, "/configurations/"+group, "")
}

func TestStaticParameterNeedsARestart(t *testing.T) {
	w := newWorld(t)
	w.prepared(nil)
	w.attach(`"` + w.newGroup(`{"performance_schema":true,"wait_timeout":77}`) + `"`)
	w.wantVariable("attached", "wait_timeout", "77")
	w.wantVariable("attached", "performance_schema", "0")
	if task := w.task(); task != trove.TaskRestartRequired {
		t.Errorf("the task is %s", task.Action())
	}
	w.long("op/restart", guestapi.CmdRestart, nil)
	w.wantVariable("after the restart", "performance_schema", "1")
}

func TestValueThatMariaDBRefusesIsAnErrorOfTheUser(t *testing.T) {
	w := newWorld(t)
	w.prepared(nil)
	group := w.newGroup(`{"wait_timeout":77}`)
	w.attach(`"` + group + `"`)
	for values, word := range map[string]string{
		`{"wait_timeout":78,"sql_mode":"NONSENSE"}`: "sql_mode", `{"wait_timeout":79,"innodb_flush_method":"nonsense"}`: "nonsense",
		`{"character_set_client":"latin9000","wait_timeout":80}`: "character_set_client",
	} {
		status, body := w.ask(http.MethodPatch, "/configurations/"+group, `{"configuration":{"values":`+values+`}}`)
		if status != http.StatusBadRequest || !strings.Contains(body, word) {
			t.Errorf("%s: %d %s", values, status, body)
		}
		w.wantVariable("after "+values, "wait_timeout", "77")
	}
	if body := w.must(http.StatusOK, http.MethodGet, "/configurations/"+group, ""); !strings.Contains(body, `"values":{"wait_timeout":77}`) {
		t.Errorf("the group is %s", body)
	}
	w.long("op/restart", guestapi.CmdRestart, nil)
	w.wantVariable("after a restart", "wait_timeout", "77")
}

func TestGuestThatWasAwayCatchesUp(t *testing.T) {
	w := newWorld(t)
	w.prepared(map[string]json.RawMessage{"wait_timeout": json.RawMessage("76")})
	w.wantVariable("created with it", "wait_timeout", "76")
	group := w.newGroup(`{"wait_timeout":77}`)
	w.attach(`"` + group + `"`)
	w.stop() // the agent; the database goes on
	w.must(http.StatusOK, http.MethodPatch, "/configurations/"+group, `{"configuration":{"values":{"wait_timeout":78}}}`)
	w.wantVariable("away", "wait_timeout", "77")
	w.startAgent()
	w.seen()
	w.until("the guest to be told", func() bool {
		ids, err := w.configs.Candidates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := w.configs.ReconcileOne(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		return w.variable("wait_timeout") == "78"
	})
}

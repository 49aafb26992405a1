package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client/cli"
)

// fleet is a service with eight agents. bad fails, busy refuses the request.
type fleet struct {
	*fakeAPI
	bad, busy int

	mu   sync.Mutex
	open int
	most int
	was  []int // in the order in which they were begun
}

func newFleet(bad, busy int) *fleet {
	f := &fleet{fakeAPI: &fakeAPI{mux: http.NewServeMux()}, bad: bad, busy: busy}
	f.mux.HandleFunc("POST /identity/v3/auth/tokens", f.login)
	var all []wire.Agent
	for n := range 8 {
		id := fmt.Sprintf("11111111-1111-4111-8111-%012d", n)
		all = append(all, wire.Agent{InstanceID: id, InstanceName: fmt.Sprintf("db-%d", n), Version: "1.2.0", Running: true})
		f.mux.HandleFunc("POST /v1.0/p/mgmt/instances/"+id+"/action", func(w http.ResponseWriter, _ *http.Request) { f.begin(w, n) })
		f.mux.HandleFunc("GET /v1.0/p/instances/"+id+"/operations/", func(w http.ResponseWriter, _ *http.Request) {
			f.mu.Lock()
			f.open--
			f.mu.Unlock()
			op := wire.Operation{ID: opID, Kind: trove.OpUpgradeAgent, InstanceID: id, State: "done", Version: 2}
			if n == f.bad {
				op.State, op.Error = "failed", "Release 1.3.0 of the guest agent was taken back: it crashed."
			}
			_ = json.NewEncoder(w).Encode(wire.OperationBody{Operation: op})
		})
	}
	f.mux.HandleFunc("GET /v1.0/p/mgmt/agents", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(wire.AgentList{Agents: all})
	})
	return f
}

func (f *fleet) begin(w http.ResponseWriter, n int) {
	if n == f.busy {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = fmt.Fprint(w, `{"unprocessableEntity":{"code":422,"message":"It is busy."}}`)
		return
	}
	f.mu.Lock()
	f.was = append(f.was, n)
	f.open++
	f.most = max(f.most, f.open)
	f.mu.Unlock()
	w.Header().Set(wire.HeaderOperation, opID)
	w.WriteHeader(http.StatusAccepted)
}

func TestRolloutGoesInWaves(t *testing.T) {
	f := newFleet(-1, 5)
	s := newShell(f)
	err := s.run(t, "agent", "upgrade", "--all", "--parallel", "3")
	message, code := cli.Explain(err)
	if code != 1 || !strings.Contains(message, "1 of 8 agents were skipped") || !strings.Contains(s.stdout.String(), "db-5 (was 1.2.0): skipped: It is busy.") {
		t.Errorf("exit %d: %s\n%s", code, message, s.stdout.String())
	}
	if n := strings.Count(s.stdout.String(), ": upgraded"); n != 7 || len(f.was) != 7 || f.was[0] != 0 || f.most > 3 {
		t.Errorf("%d upgraded, begun %v, %d at once", n, f.was, f.most)
	}
}

func TestRolloutStopsAtTheFirstThatIsTakenBack(t *testing.T) {
	for bad, want := range map[int]int{0: 1, 2: 4} { // the first alone, then the wave of three that it is in
		f := newFleet(bad, -1)
		s := newShell(f)
		err := s.run(t, "agent", "upgrade", "--all", "--parallel", "3")
		message, code := cli.Explain(err)
		left := fmt.Sprintf("%d of 8 agents are left as they are", 8-want)
		if code != 1 || !strings.Contains(message, "it crashed.") || !strings.Contains(message, left) || len(f.was) != want {
			t.Errorf("exit %d after %v: %s", code, f.was, message)
		}
	}
}

func TestUpgradeNamesItsInstances(t *testing.T) {
	for _, args := range [][]string{{"agent", "upgrade"}, {"agent", "upgrade", "--all", "db-1"}, {"agent", "upgrade", "db-1", "db-99"}} {
		f := newFleet(-1, -1)
		if err := newShell(f).run(t, args...); err == nil || len(f.was) > 0 {
			t.Errorf("%v: %v, begun %v", args, err, f.was)
		}
	}
	f := newFleet(-1, -1)
	if err := newShell(f).run(t, "agent", "upgrade", "db-3", "db-6"); err != nil || cmp.Diff([]int{3, 6}, f.was) != "" {
		t.Errorf("%v, begun %v", err, f.was)
	}
}

package compat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/trove-dbaas/trove/internal/clock"
)

// tempest does what the scenario tests of trove-tempest-plugin do: exact status codes, and waits that end with the first look at which an instance is ACTIVE
// and HEALTHY. What was asked for must be visible with that look.
type tempest struct {
	suite *suite
	c     *gophercloud.ServiceClient
}

// call makes a request that must be answered with the code.
func (te tempest) call(ctx context.Context, method, path string, body any, code int) (any, error) {
	var answer any
	opts := &gophercloud.RequestOpts{OkCodes: []int{code}}
	if body != nil {
		opts.JSONBody = body
	}
	if code == http.StatusOK && method != http.MethodPatch {
		opts.JSONResponse = &answer
	}
	resp, err := te.c.Request(ctx, method, te.c.Endpoint+te.suite.expand(path), opts)
	if err != nil {
		return nil, err
	}
	if opts.JSONResponse == nil {
		err = resp.Body.Close()
	}
	return answer, err
}

type tempestInstance struct {
	Instance struct {
		ID              string `json:"id"`
		Status          string `json:"status"`
		OperatingStatus string `json:"operating_status"`
		Flavor          struct {
			ID string `json:"id"`
		} `json:"flavor"`
		Volume struct {
			Size int `json:"size"`
		} `json:"volume"`
	} `json:"instance"`
}

func decoded(v any) (i tempestInstance, err error) {
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &i)
	}
	return i, err
}

// healthy waits as the plugin does, and returns what the last look saw.
func (te tempest) healthy(ctx context.Context) (any, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		v, err := te.call(ctx, http.MethodGet, "instances/$one", nil, http.StatusOK)
		if err != nil {
			return nil, err
		}
		i, err := decoded(v)
		switch {
		case err != nil:
			return nil, err
		case i.Instance.Status == "ACTIVE" && i.Instance.OperatingStatus == "HEALTHY":
			return fmt.Sprintf("flavor %s, %d GiB", i.Instance.Flavor.ID, i.Instance.Volume.Size), nil
		case i.Instance.Status == "ERROR":
			return nil, errors.New("the instance is in ERROR")
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("not healthy in time")
}

// act asks for an action and waits.
func (te tempest) act(ctx context.Context, action any) (any, error) {
	if _, err := te.call(ctx, http.MethodPost, "instances/$one/action", action, http.StatusAccepted); err != nil {
		return nil, err
	}
	return te.healthy(ctx)
}

type object = map[string]any

func (te tempest) create(ctx context.Context) (any, error) {
	v, err := te.call(ctx, http.MethodPost, "instances", object{"instance": object{
		"name": "tempest-1", "flavorRef": "1", "volume": object{"size": 1}, "access": object{"is_public": false},
		"datastore": object{"type": te.suite.known["datastore"], "version": te.suite.known["version"]},
		"databases": []object{{"name": "db1"}}, "users": []object{{"name": "user1", "password": te.suite.known["password"], "databases": []object{{"name": "db1"}}}},
	}}, http.StatusOK)
	if err != nil {
		return nil, err
	}
	i, err := decoded(v)
	if err != nil {
		return nil, err
	}
	te.suite.known["one"] = i.Instance.ID
	return te.healthy(ctx)
}

// plain is a step of one call.
func (te tempest) plain(method, path string, body any, code int, prints string) step {
	return step{row{cmd: fmt.Sprintf("%s %s: %d", method, path, code), prints: prints}, func(ctx context.Context) (any, error) {
		return te.call(ctx, method, path, body, code)
	}}
}

// again gives steps that are done twice another name.
func again(s step) step {
	s.cmd += " again"
	return s
}

// TestTrap3TempestPolls runs the plugin's scenarios that need no second service (traps 1, 3, 4 and 10 of the reference).
func TestTrap3TempestPolls(t *testing.T) {
	s := startServer(t)
	te := tempest{newSuite(s, readExpectations(t), "tempest", "trove-tempest-plugin (its calls and waits)", "tempest"), s.client(t, s.member)}
	group := object{"configuration": object{
		"name": "tempest-c", "values": object{s.parameter: 555}, "datastore": object{"type": s.datastore, "version": s.version},
	}}
	const root, users, dbs = "instances/$one/root", "instances/$one/users", "instances/$one/databases"
	enable := te.plain(http.MethodPost, root, object{}, http.StatusOK, "password")
	isEnabled := te.plain(http.MethodGet, root, nil, http.StatusOK, "true")
	notEnabled := te.plain(http.MethodGet, root, nil, http.StatusOK, "false")
	te.suite.runSteps(t, []step{
		{row{cmd: "create and wait", prints: "flavor 1, 1 GiB"}, te.create},
		te.plain(http.MethodPost, dbs, object{"databases": []object{{"name": "db2"}}}, http.StatusAccepted, ""),
		te.plain(http.MethodGet, dbs, nil, http.StatusOK, "db1.*db2"),
		te.plain(http.MethodPost, users, object{"users": []object{{"name": "user2", "password": te.suite.known["password"]}}}, http.StatusAccepted, ""),
		te.plain(http.MethodPut, users+"/user2/databases", object{"databases": []object{{"name": "db2"}}}, http.StatusAccepted, ""),
		te.plain(http.MethodGet, users+"/user2/databases", nil, http.StatusOK, "db2"),
		te.plain(http.MethodDelete, users+"/user2/databases/db2", nil, http.StatusAccepted, ""),
		te.plain(http.MethodPut, users+"/user2", object{"user": object{"name": "new_user"}}, http.StatusAccepted, ""),
		te.plain(http.MethodGet, users, nil, http.StatusOK, "new_user"),
		te.plain(http.MethodDelete, users+"/new_user", nil, http.StatusAccepted, ""),
		te.plain(http.MethodDelete, dbs+"/db2", nil, http.StatusAccepted, ""),
		notEnabled, enable, isEnabled,
		te.plain(http.MethodDelete, root, nil, http.StatusNoContent, ""),
		again(notEnabled), again(enable), again(isEnabled),
		{row{cmd: "resize of the flavor and wait", prints: "flavor 2, 1 GiB"}, func(ctx context.Context) (any, error) {
			return te.act(ctx, object{"resize": object{"flavorRef": "2"}})
		}},
		{row{cmd: "resize of the volume and wait", prints: "flavor 2, 2 GiB"}, func(ctx context.Context) (any, error) {
			return te.act(ctx, object{"resize": object{"volume": object{"size": 2}}})
		}},
		{row{cmd: "restart and wait", prints: "flavor 2"}, func(ctx context.Context) (any, error) { return te.act(ctx, object{"restart": object{}}) }},
		{row{cmd: "POST configurations: 200", prints: `"instance_count":0`}, func(ctx context.Context) (any, error) {
			v, err := te.call(ctx, http.MethodPost, "configurations", group, http.StatusOK)
			if m, ok := v.(object); ok {
				if c, ok := m["configuration"].(object); ok {
					te.suite.known["group"] = fmt.Sprint(c["id"])
				}
			}
			return v, err
		}},
		{row{cmd: "PUT instances/$one with the configuration: 202"}, func(ctx context.Context) (any, error) {
			return te.call(ctx, http.MethodPut, "instances/$one", object{"instance": object{"configuration": te.suite.known["group"]}}, http.StatusAccepted)
		}},
		te.plain(http.MethodGet, "configurations/$group/instances", nil, http.StatusOK, "tempest-1"),
		te.plain(http.MethodPatch, "configurations/$group", object{"configuration": object{"values": object{s.parameter: 666}}}, http.StatusOK, ""),
		te.plain(http.MethodPut, "instances/$one", object{"instance": object{"configuration": nil}}, http.StatusAccepted, ""),
		te.plain(http.MethodDelete, "configurations/$group", nil, http.StatusAccepted, ""),
		te.plain(http.MethodDelete, "instances/$one", nil, http.StatusAccepted, ""),
		{row{cmd: "wait for 404", until: "$one gone"}, func(context.Context) (any, error) { return done(nil) }},
	})
	te.suite.report(t)
}

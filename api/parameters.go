package api

import (
	"context"
	"encoding/json"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// pathVersion finds the datastore version of a path: below a datastore by id or name, else by id alone.
func (s *server) pathVersion(ctx context.Context, c *call) (trove.DatastoreVersion, error) {
	ref := c.params.get("version")
	if name := c.params.get("datastore"); name != "" {
		d, err := s.findDatastore(ctx, name)
		if err != nil {
			return trove.DatastoreVersion{}, err
		}
		return s.findVersion(ctx, d, ref, "")
	}
	v, err := s.cfg.Store.DatastoreVersion(ctx, ref)
	if err != nil {
		return v, asBadRequest(fmt.Errorf("read the datastore version: %w", err), "Datastore version '%s' cannot be found.", ref)
	}
	return v, nil
}

func (s *server) rulesOfPath(ctx context.Context, c *call) (trove.DatastoreVersion, []trove.Parameter, error) {
	v, err := s.pathVersion(ctx, c)
	if err != nil {
		return v, nil, err
	}
	rules, err := s.cfg.Store.Parameters(ctx, v.ID, false)
	if err != nil {
		return v, nil, fmt.Errorf("read the parameters: %w", err)
	}
	return v, rules, nil
}

// ruleOfPath finds the parameter that the path names, without regard to case.
func (s *server) ruleOfPath(ctx context.Context, c *call) (trove.DatastoreVersion, *trove.Parameter, error) {
	v, rules, err := s.rulesOfPath(ctx, c)
	if err != nil {
		return v, nil, err
	}
	name := c.params.get("parameter")
	p, ok := trove.FindParameter(rules, name)
	if !ok {
		return v, nil, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", name)
	}
	return v, p, nil
}

func limitPtr(n json.Number) *json.Number {
	if n == "" {
		return nil
	}
	return &n
}

func viewParameter(version string, p *trove.Parameter) wire.Parameter {
	return wire.Parameter{
		Name: p.Name, DatastoreVersionID: version, RestartRequired: p.RestartRequired, Type: string(p.Type), Max: limitPtr(p.Max), Min: limitPtr(p.Min),
	}
}

func viewManagedParameter(version string, p *trove.Parameter) wire.ManagedParameter {
	return wire.ManagedParameter{
		Name: p.Name, DatastoreVersionID: version, RestartRequired: p.RestartRequired, Type: string(p.Type), MaxSize: limitPtr(p.Max), MinSize: limitPtr(p.Min),
	}
}

func (s *server) listParameters(ctx context.Context, c *call) (any, error) {
	v, rules, err := s.rulesOfPath(ctx, c)
	if err != nil {
		return nil, err
	}
	out := wire.ParameterList{Parameters: []wire.Parameter{}}
	for n := range rules {
		out.Parameters = append(out.Parameters, viewParameter(v.ID, &rules[n]))
	}
	return &out, nil
}

func (s *server) showParameter(ctx context.Context, c *call) (any, error) {
	v, p, err := s.ruleOfPath(ctx, c)
	if err != nil {
		return nil, err
	}
	out := viewParameter(v.ID, p)
	return &out, nil
}

func (s *server) listManagedParameters(ctx context.Context, c *call) (any, error) {
	v, rules, err := s.rulesOfPath(ctx, c)
	if err != nil {
		return nil, err
	}
	out := wire.ManagedParameterList{Parameters: []wire.ManagedParameter{}}
	for n := range rules {
		out.Parameters = append(out.Parameters, viewManagedParameter(v.ID, &rules[n]))
	}
	return &out, nil
}

func (s *server) showManagedParameter(ctx context.Context, c *call) (any, error) {
	v, p, err := s.ruleOfPath(ctx, c)
	if err != nil {
		return nil, err
	}
	out := viewManagedParameter(v.ID, p)
	return &out, nil
}

// readParameter reads a rule from a body.
func readParameter(name string, body object) (trove.Parameter, error) {
	p := trove.Parameter{
		Name: name, Type: trove.ParameterType(body.str("data_type")), RestartRequired: body.ref("restart_required") == "1", Custom: true,
		Min: json.Number(body.ref("min_size")), Max: json.Number(body.ref("max_size")),
	}
	switch {
	case p.Type != trove.ParameterInteger && p.Type != trove.ParameterString: // the schema's expression also finds these words inside others
		return p, bad("Validation error: configuration-parameter['data_type'] %s is neither integer nor string", pythonRepr(string(p.Type)))
	case p.Type == trove.ParameterInteger && p.Max == "":
		return p, bad("max_size is required for integer data type.")
	case p.Type == trove.ParameterInteger && p.Min == "":
		return p, bad("min_size is required for integer data type.")
	}
	return p, p.CheckRange()
}

// changeParameters runs change on the rules of the path's version, with the removed ones, and writes the rule that it returns.
func (s *server) changeParameters(ctx context.Context, c *call, change func(version string, rules []trove.Parameter) (trove.Parameter, error),
) (out wire.ManagedParameter, err error) {
	v, err := s.pathVersion(ctx, c)
	if err != nil {
		return out, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		rules, err := tx.Parameters(ctx, v.ID, true)
		if err != nil {
			return err
		}
		p, err := change(v.ID, rules)
		if err != nil {
			return err
		}
		out = viewManagedParameter(v.ID, &p)
		if err := s.willAnswer(ctx, c, &out); err != nil {
			return err
		}
		if err := tx.PutParameter(ctx, v.ID, p); err != nil {
			return err
		}
		return holdVersion(ctx, tx, v.ID)
	})
	if err != nil {
		return out, fmt.Errorf("change a parameter: %w", err)
	}
	return out, nil
}

func (s *server) createManagedParameter(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("configuration-parameter")
	want, err := readParameter(body.str("name"), body)
	if err != nil {
		return nil, err
	}
	out, err := s.changeParameters(ctx, c, func(version string, rules []trove.Parameter) (trove.Parameter, error) {
		old, there := trove.FindParameter(rules, want.Name)
		if there && !old.Deleted {
			return want, bad("%s parameter already exists for datastore version %s.", old.Name, version)
		}
		if there {
			want.Name = old.Name
		}
		return want, nil
	})
	return &out, err
}

func (s *server) updateManagedParameter(ctx context.Context, c *call) (any, error) {
	name := c.params.get("parameter")
	want, err := readParameter(name, c.body.obj("configuration-parameter"))
	if err != nil {
		return nil, err
	}
	out, err := s.changeParameters(ctx, c, func(_ string, rules []trove.Parameter) (trove.Parameter, error) {
		old, there := trove.FindParameter(rules, name)
		if !there || old.Deleted {
			return want, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", name)
		}
		want.Name = old.Name
		return want, nil
	})
	return &out, err
}

func (s *server) deleteManagedParameter(ctx context.Context, c *call) (any, error) {
	name := c.params.get("parameter")
	_, err := s.changeParameters(ctx, c, func(_ string, rules []trove.Parameter) (trove.Parameter, error) {
		old, there := trove.FindParameter(rules, name)
		if !there || old.Deleted {
			return trove.Parameter{}, bad("Parameter %s does not exist in the database.", name)
		}
		gone := *old
		gone.Deleted, gone.Custom = true, true
		return gone, nil
	})
	return nil, err
}

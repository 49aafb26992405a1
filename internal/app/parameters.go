package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// Rules says which datastore version gets which rules for its parameters.
type Rules struct {
	Datastore string // by id or name
	Version   string // by id or name
	Number    string // where several versions have the name
	File      string // of rules, in Trove's form; "": the engine driver's
	Reset     bool   // forget what administrators wrote or removed
}

// LoadParameters loads the rules into the datastore version and returns how many it has then. It may be repeated; the service may run meanwhile.
func LoadParameters(ctx context.Context, cfg config.Config, r Rules) (n int, err error) {
	err = r.inStore(ctx, cfg, func(ctx context.Context, tx store.Tx, v trove.DatastoreVersion) error {
		rules, err := r.rules(v)
		if err != nil {
			return err
		}
		var have []trove.Parameter
		if !r.Reset {
			if have, err = tx.Parameters(ctx, v.ID, true); err != nil {
				return err
			}
		}
		all := trove.MergeParameters(have, rules)
		n = len(slices.DeleteFunc(slices.Clone(all), func(p trove.Parameter) bool { return p.Deleted }))
		return tx.ReplaceParameters(ctx, v.ID, all)
	})
	return n, err
}

// RemoveParameters removes all rules of the datastore version: it has no configuration groups then. It may be repeated.
func RemoveParameters(ctx context.Context, cfg config.Config, r Rules) error {
	return r.inStore(ctx, cfg, func(ctx context.Context, tx store.Tx, v trove.DatastoreVersion) error {
		return tx.ReplaceParameters(ctx, v.ID, nil)
	})
}

func (r Rules) inStore(ctx context.Context, cfg config.Config, do func(context.Context, store.Tx, trove.DatastoreVersion) error) error {
	c, err := storeConfig(cfg)
	if err != nil {
		return err
	}
	st, err := sqlstore.Open(ctx, c)
	if err != nil {
		return err
	}
	err = st.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		v, err := r.find(ctx, tx)
		if err != nil {
			return err
		}
		return do(ctx, tx, v)
	})
	return errors.Join(err, st.Close())
}

func (r Rules) find(ctx context.Context, tx store.Tx) (trove.DatastoreVersion, error) {
	d, err := tx.Datastore(ctx, r.Datastore)
	if err != nil {
		return trove.DatastoreVersion{}, err
	}
	all, err := tx.DatastoreVersions(ctx, d.ID)
	if err != nil {
		return trove.DatastoreVersion{}, err
	}
	var found []trove.DatastoreVersion
	for _, v := range all {
		if (v.Name == r.Version || v.ID == r.Version) && (r.Number == "" || v.Version == r.Number) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return trove.DatastoreVersion{}, trove.Errorf(trove.KindNotFound, "Datastore version '%s' cannot be found.", r.Version)
	case 1:
		return found[0], nil
	}
	return trove.DatastoreVersion{}, trove.Errorf(trove.KindBadRequest, "Several versions of %s have the name %s: name the number with --version.", d.Name, r.Version)
}

// rules reads the rules from the file or the driver.
func (r Rules) rules(v trove.DatastoreVersion) ([]trove.Parameter, error) {
	if r.File == "" {
		e, ok := engines()[v.Manager]
		if !ok {
			return nil, trove.Errorf(trove.KindBadRequest, "There is no engine driver %q: give a file with rules.", v.Manager)
		}
		return e.Rules(v.Version), nil
	}
	data, err := os.ReadFile(r.File)
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The file %s cannot be read.", r.File)
	}
	return readRules(r.File, data)
}

func readRules(name string, data []byte) ([]trove.Parameter, error) {
	var file struct {
		Parameters []trove.Parameter `json:"configuration-parameters"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The file %s does not hold rules: %v.", name, err)
	}
	if len(file.Parameters) == 0 {
		return nil, trove.Errorf(trove.KindBadRequest, `The file %s has no rules: they are a list under "configuration-parameters".`, name)
	}
	known := []trove.ParameterType{trove.ParameterInteger, trove.ParameterFloat, trove.ParameterBoolean, trove.ParameterString}
	seen := map[string]bool{}
	for _, p := range file.Parameters {
		key := strings.ToLower(p.Name)
		switch {
		case p.Name == "" || len(p.Name) > 128 || seen[key]:
			return nil, trove.Errorf(trove.KindBadRequest, "The file %s has a parameter %q without a proper name, or twice.", name, p.Name)
		case !slices.Contains(known, p.Type):
			return nil, trove.Errorf(trove.KindBadRequest, "The parameter %s has the type %q; it must be integer, float, boolean or string.", p.Name, p.Type)
		}
		if err := p.CheckRange(); err != nil {
			return nil, fmt.Errorf("read the rule for %s: %w", p.Name, err)
		}
		seen[key] = true
	}
	return file.Parameters, nil
}

package troveimport

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// parameters gives a version that was taken the rules of its parameters: those of the engine here, which know what the service sets itself, or else the
// source's. They are not an administrator's: loading an engine's rules later replaces them.
func (r *run) parameters(all []record) func(context.Context, record) error {
	of := grouped(all, "datastore_version_id")
	return func(ctx context.Context, row record) error {
		v, known := r.versions[row["id"]]
		if !known || !r.made[v.ID] {
			return nil
		}
		rules, unread := rulesOf(of[row["id"]])
		reason := fmt.Sprintf("%d rules", len(rules))
		if len(unread) > 0 {
			reason += ", without those of " + strings.Join(unread, ", ") + ", which cannot be read"
		}
		if own := r.options.Rules(v.Manager, v.Version); len(own) > 0 {
			rules, reason = own, fmt.Sprintf("%d rules of the engine here, not the source's %d", len(own), len(rules)+len(unread))
		}
		if len(rules)+len(unread) == 0 {
			return nil
		}
		r.say("parameters", v.ID, v.DatastoreName+" "+v.Name, Taken, "%s", reason)
		return r.tx.ReplaceParameters(ctx, v.ID, rules)
	}
}

// rulesOf reads the rules of a version in the source, by name, and which cannot be read.
func rulesOf(rows []record) (rules []trove.Parameter, unread []string) {
	for _, row := range rows {
		p := trove.Parameter{Name: row["name"], RestartRequired: row.flag("restart_required"), Type: trove.ParameterType(strings.ToLower(row["data_type"]))}
		switch p.Type {
		case trove.ParameterInteger, trove.ParameterFloat:
			p.Min, p.Max = json.Number(row["min_size"]), json.Number(row["max_size"])
		case trove.ParameterBoolean, trove.ParameterString:
		default:
			unread = append(unread, p.Name)
			continue
		}
		if p.Name == "" || p.CheckRange() != nil {
			unread = append(unread, p.Name)
			continue
		}
		rules = append(rules, p)
	}
	slices.SortFunc(rules, func(a, b trove.Parameter) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(unread)
	return rules, unread
}

// configuration takes a configuration group with its values, which get the types of the source's rules, or else of the rules here.
func (r *run) configuration(items, rules []record) func(context.Context, record) error {
	itemsOf, ofVersion := grouped(items, "configuration_id"), grouped(rules, "datastore_version_id")
	return func(ctx context.Context, row record) error {
		id, name := row["id"], row["name"]
		if row.flag("deleted") {
			return nil
		}
		if g, err := r.tx.Configuration(ctx, id); err == nil {
			r.groups[id] = g
			r.say("configuration", id, name, There, "")
			return nil
		} else if !trove.IsNotFound(err) {
			return err
		}
		v, known := r.versions[row["datastore_version_id"]]
		switch {
		case !trove.ValidID(id) || row["tenant_id"] == "":
			r.say("configuration", id, name, Left, "it has no id or no project")
			return nil
		case !known:
			r.say("configuration", id, name, Left, "its datastore version %q is not in the source", row["datastore_version_id"])
			return nil
		}
		here, err := r.tx.Parameters(ctx, v.ID, false)
		if err != nil {
			return err
		}
		source, _ := rulesOf(ofVersion[row["datastore_version_id"]])
		g := trove.Configuration{
			ID: id, ProjectID: row["tenant_id"], Name: name, Description: row["description"], DatastoreVersionID: v.ID, Created: r.created(row), Updated: r.updated(row),
		}
		values, unread := valuesOf(itemsOf[id], source, here)
		g.Values = values
		r.groups[id] = g
		r.say("configuration", id, name, Taken, "%s", strings.Join(remarks(values, unread, here), "; "))
		return r.tx.InsertConfiguration(ctx, g)
	}
}

// valuesOf reads the values of a group, and the names of those that are not what their rule says.
func valuesOf(items []record, source, here []trove.Parameter) (values map[string]json.RawMessage, unread []string) {
	values = map[string]json.RawMessage{}
	for _, row := range items {
		if row.flag("deleted") {
			continue
		}
		name := row["configuration_key"]
		kind := trove.ParameterString
		if p, ruled := trove.FindParameter(source, name); ruled {
			kind = p.Type
		} else if p, ruled := trove.FindParameter(here, name); ruled {
			kind = p.Type
		}
		text, given := row["configuration_value"]
		value, ok := typed(text, kind)
		if !given || !ok {
			unread = append(unread, name)
			continue
		}
		values[name] = value
	}
	slices.Sort(unread)
	return values, unread
}

// remarks say what is odd about the values of a group; the values themselves may be secrets.
func remarks(values map[string]json.RawMessage, unread []string, here []trove.Parameter) (all []string) {
	if len(unread) > 0 {
		all = append(all, "left out, as they are not of their type: "+strings.Join(unread, ", "))
	}
	if len(here) == 0 {
		return append(all, "its version has no rules here: load them with trove manage parameters load")
	}
	var misfits []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if p, ruled := trove.FindParameter(here, name); !ruled || p.Check(values[name]) != nil {
			misfits = append(misfits, name)
		}
	}
	if len(misfits) > 0 {
		all = append(all, "the rules here do not allow its values of "+strings.Join(misfits, ", "))
	}
	return all
}

// typed makes the JSON of a value that the source keeps as a text: yes is 1 there.
func typed(text string, kind trove.ParameterType) (json.RawMessage, bool) {
	switch kind {
	case trove.ParameterInteger:
		n, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return nil, false
		}
		return json.RawMessage(n.String()), true
	case trove.ParameterFloat:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, false
		}
		data, err := json.Marshal(f) // what is no number in JSON is an error
		return data, err == nil
	case trove.ParameterBoolean:
		yes, err := strconv.ParseBool(strings.ToLower(text))
		return json.RawMessage(strconv.FormatBool(yes)), err == nil
	}
	data, err := json.Marshal(text)
	return data, err == nil
}

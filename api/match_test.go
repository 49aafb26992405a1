package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// matcher compares an answer with a recorded one by the rules of the recording: the same keys, the same types, the same values where there is
// no placeholder.
type matcher struct {
	g     *golden
	page  bool // the order of lists counts
	loose bool // which item stands where is not defined: texts are compared by type only
}

// unbound are the placeholders that stand for any value of a form.
var unbound = map[string]string{
	"uuid": `[0-9a-f]{8}-[0-9a-f-]{27}`, "any_configuration": `[0-9a-f-]{36}`, "any_instance": `[0-9a-f-]{36}`, "any_backup": `[0-9a-f-]{36}`, "any_module": `[0-9a-f-]{36}`, "hex32": `[0-9a-f]{32}`, "request_id": `req-[0-9a-f-]{36}`,
	"time": `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d`, "time_z": `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "password": `.*`, "operating_status": `.*`,
	"server_id": `.*`, "retryAfter": `\d+`, "traceback": `(?s:.*)`, "marker": `[^&]*`, "number": `.*`,
	"time_fraction": `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+`,
}

var placeholder = regexp.MustCompile(`\{([a-zA-Z_][A-Za-z0-9_.]*)\}`)

// pattern turns a recorded text into a regular expression; instance_a and instance_b are bound when they are met first.
func (m *matcher) pattern(text string) string {
	var b strings.Builder
	last := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		b.WriteString(regexp.QuoteMeta(text[last:at[0]]))
		name := text[at[2]:at[3]]
		last = at[1]
		value, bound := m.g.bound[name]
		form, free := unbound[name]
		switch {
		case free:
			b.WriteString(form)
		case bound:
			b.WriteString(regexp.QuoteMeta(value))
		case strings.HasPrefix(name, "instance_"), strings.HasPrefix(name, "module"), strings.HasPrefix(name, "configuration"), strings.HasPrefix(name, "version_"),
			name == "datastore_new":
			b.WriteString(unbound["uuid"])
		default:
			b.WriteString(regexp.QuoteMeta(text[at[0]:at[1]]))
		}
	}
	b.WriteString(regexp.QuoteMeta(text[last:]))
	return "^" + b.String() + "$"
}

func (m *matcher) compiled(text string) *regexp.Regexp {
	pattern := m.pattern(text)
	re := m.g.patterns[pattern]
	if re == nil {
		re = regexp.MustCompile(pattern)
		m.g.patterns[pattern] = re
	}
	return re
}

func (m *matcher) match(path, key string, want, got any) string {
	problem := m.value(path, key, want, got)
	if problem != "" && m.allowed(strings.TrimSuffix(path, "."+key), key, "value") {
		return ""
	}
	return problem
}

func (m *matcher) value(path, key string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %s, recorded an object", path, show(got))
		}
		return m.object(path, w, g)
	case []any:
		g, ok := got.([]any)
		if !ok {
			return fmt.Sprintf("%s is %s, recorded a list", path, show(got))
		}
		return m.list(path, key, w, g)
	case string:
		if w == "{number}" {
			if _, ok := got.(json.Number); ok {
				return ""
			}
		}
		g, ok := got.(string)
		if !ok {
			return fmt.Sprintf("%s is %s, recorded %q", path, show(got), w)
		}
		if m.loose || w == g || (strings.Contains(w, "{") && m.compiled(w).MatchString(g)) {
			return ""
		}
		return fmt.Sprintf("%s is\n  %q, recorded\n  %q", path, g, w)
	}
	if m.loose && fmt.Sprintf("%T", want) == fmt.Sprintf("%T", got) {
		return ""
	}
	if show(want) != show(got) {
		return fmt.Sprintf("%s is %s, recorded %s", path, show(got), show(want))
	}
	return ""
}

func (m *matcher) object(path string, want, got map[string]any) string {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[key]
		if !ok {
			if m.allowed(path, key, "missing") {
				continue
			}
			return fmt.Sprintf("%s.%s is missing", path, key)
		}
		if problem := m.match(path+"."+key, key, want[key], g); problem != "" {
			return problem
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok && !m.allowed(path, key, "extra") {
			return fmt.Sprintf("%s.%s is there (%s), and was not recorded", path, key, show(got[key]))
		}
	}
	return ""
}

func (m *matcher) list(path, key string, want, got []any) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%s has %d items, recorded %d: %s", path, len(got), len(want), show(got))
	}
	ordered := m.page || key == "links" || key == "ip"
	left := slices.Clone(got)
	for n, w := range want {
		if ordered {
			if problem := m.match(fmt.Sprintf("%s[%d]", path, n), "", w, got[n]); problem != "" {
				return problem
			}
			continue
		}
		first := ""
		at := slices.IndexFunc(left, func(g any) bool {
			problem := m.match(fmt.Sprintf("%s[%d]", path, n), "", w, g)
			if first == "" {
				first = problem
			}
			return problem == ""
		})
		if at < 0 {
			return first
		}
		left = slices.Delete(left, at, at+1)
	}
	return ""
}

// allowed says whether differences.json has the key, and notes that it was needed.
func (m *matcher) allowed(parent, key, kind string) bool {
	for _, k := range m.g.diffs.Keys {
		if k.Key == key && k.Kind == kind && key != "" && (k.Under == "" || strings.HasSuffix(parent, "."+k.Under)) {
			k.used = true
			return true
		}
	}
	return false
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (g *golden) setQuotas(tenant string, limits map[string]int) {
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
		for _, resource := range slices.Sorted(maps.Keys(limits)) {
			if err := tx.SetQuota(ctx, tenant, resource, limits[resource]); err != nil {
				return err
			}
		}
		return nil
	})
}

// discard removes an instance as if it had never been asked for.
func (g *golden) discard(id string) {
	i, err := g.store.Instance(g.t.Context(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	row, _ := g.openOperation(g.t, id)
	inTx(g.t, g.store, func(ctx context.Context, tx store.Tx) error {
		claimed, err := tx.ClaimOperation(ctx, row, "test", g.clock.Now())
		if err != nil {
			return err
		}
		if err := tx.CloseOperation(ctx, claimed, trove.OperationUndone, g.clock.Now()); err != nil {
			return err
		}
		if err := tx.GiveQuota(ctx, i.ProjectID, i.Held); err != nil {
			return err
		}
		return tx.DeleteInstance(ctx, id, g.clock.Now())
	})
}

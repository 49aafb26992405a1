package trove

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Configuration is a configuration group: values for parameters of one datastore version, which the instances have that it is attached to.
type Configuration struct {
	ID                 string
	ProjectID          string
	Name               string
	Description        string // "": none was given
	DatastoreVersionID string
	Values             map[string]json.RawMessage // by parameter, spelled as the user did; JSON numbers, booleans and strings
	Created            time.Time
	Updated            time.Time
	Version            int64 // raised with each write; store.Tx.UpdateConfiguration checks it
}

// Overrides returns the values as an engine gets them: parameters in lower case.
func (c *Configuration) Overrides() map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(c.Values))
	for name, value := range c.Values {
		out[strings.ToLower(name)] = value
	}
	return out
}

// With returns the values with others beside them or in their place. Parameters compare without regard to case.
func (c *Configuration) With(values map[string]json.RawMessage) map[string]json.RawMessage {
	out := maps.Clone(c.Values)
	if out == nil {
		out = map[string]json.RawMessage{}
	}
	for name, value := range values {
		maps.DeleteFunc(out, func(old string, _ json.RawMessage) bool { return strings.EqualFold(old, name) })
		out[name] = value
	}
	return out
}

// InstanceConfiguration is how far an instance's guest has followed what its configuration group says, or that it has none. Whoever tells the guest
// raises Revision first and sends it along; the guest refuses what is older than what it has heard.
type InstanceConfiguration struct {
	InstanceID string
	Revision   int64     // of the last attempt to tell the guest
	Applied    int64     // the last revision that the guest has taken with what the store said; behind Revision: the guest is to be told again
	Due        time.Time // not before this time by anybody but whoever raised Revision
	Restart    bool      // the database has to be restarted for all of it to hold
}

// ParameterType is the type of a parameter's values.
type ParameterType string

// The types, in Trove's words.
const (
	ParameterInteger ParameterType = "integer"
	ParameterFloat   ParameterType = "float"
	ParameterBoolean ParameterType = "boolean"
	ParameterString  ParameterType = "string"
)

// Parameter is the rule for one parameter of a datastore version.
type Parameter struct {
	Name            string        `json:"name"`
	RestartRequired bool          `json:"restart_required"`
	Type            ParameterType `json:"type"`
	Min             json.Number   `json:"min,omitempty"` // "": no limit; numbers beyond 64 bits are possible
	Max             json.Number   `json:"max,omitempty"`
	// Custom says that an administrator wrote the rule: loading the driver's rules leaves it.
	Custom bool `json:"-"`
	// Deleted says that an administrator removed it: loading the driver's rules does not bring it back.
	Deleted bool `json:"-"`
}

// MaxParameterText is how long a value that is a text may be, in bytes.
const MaxParameterText = 1024

// Check returns nil if a value fits the rule, else an Unprocessable error in Trove's words. A whole number is a float too; true is no integer.
func (p *Parameter) Check(value json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return p.wrongType()
	}
	switch v := v.(type) {
	case bool:
		if p.Type == ParameterBoolean {
			return nil
		}
	case string:
		if p.Type == ParameterString {
			return p.checkText(v)
		}
	case json.Number:
		if p.Type == ParameterFloat || p.Type == ParameterInteger && !strings.ContainsAny(v.String(), ".eE") {
			return p.checkRange(v)
		}
	}
	return p.wrongType()
}

func (p *Parameter) wrongType() error {
	return Errorf(KindUnprocessable, "The value provided for the configuration parameter %s is not of type %s.", p.Name, p.Type)
}

func (p *Parameter) checkText(v string) error {
	if len(v) > MaxParameterText || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Errorf(KindUnprocessable, "The value provided for the configuration parameter %s is longer than %d bytes or has characters that are not allowed.",
			p.Name, MaxParameterText)
	}
	return nil
}

// maxDigits bounds what is computed with: 1e999999999 is a short text.
const maxDigits = 64

func (p *Parameter) checkRange(v json.Number) error {
	n, ok := number(v)
	if !ok {
		return p.wrongType()
	}
	if low, ok := number(p.Min); ok && n.Cmp(low) < 0 {
		return Errorf(KindUnprocessable, "The value for the configuration parameter %s is less than the minimum allowed: %s", p.Name, p.Min)
	}
	if high, ok := number(p.Max); ok && n.Cmp(high) > 0 {
		return Errorf(KindUnprocessable, "The value for the configuration parameter %s is greater than the maximum allowed: %s", p.Name, p.Max)
	}
	return nil
}

// number reads a number; ok is false for what is none or has too large an exponent.
func number(n json.Number) (r *big.Rat, ok bool) {
	text := n.String()
	if text == "" || len(text) > maxDigits {
		return nil, false
	}
	if _, exponent, found := strings.Cut(strings.ToLower(text), "e"); found && len(strings.TrimLeft(exponent, "+-0")) > 3 {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// CheckRange returns nil if Min and Max are numbers, or absent, and in order.
func (p *Parameter) CheckRange() error {
	low, lowOK := number(p.Min)
	high, highOK := number(p.Max)
	switch {
	case p.Min != "" && !lowOK || p.Max != "" && !highOK:
		return Errorf(KindBadRequest, "The limits of the parameter %s are not numbers.", p.Name)
	case lowOK && highOK && high.Cmp(low) < 0:
		return Errorf(KindBadRequest, "max_size must be greater than or equal to min_size.")
	}
	return nil
}

// FindParameter finds a rule by its name without regard to case.
func FindParameter(rules []Parameter, name string) (*Parameter, bool) {
	n := slices.IndexFunc(rules, func(p Parameter) bool { return strings.EqualFold(p.Name, name) })
	if n < 0 {
		return nil, false
	}
	return &rules[n], true
}

// MergeParameters returns the rules that a version has after a driver's rules were loaded: what an administrator wrote or removed stays so, all else is
// as the driver says.
func MergeParameters(have, driver []Parameter) []Parameter {
	var out []Parameter
	for _, p := range have {
		if p.Custom || p.Deleted {
			out = append(out, p)
		}
	}
	for _, p := range driver {
		if _, kept := FindParameter(out, p.Name); !kept {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	return out
}

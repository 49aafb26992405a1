package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found`)

func decode(data []byte, c *Config) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	err := d.Decode(c)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("line %s: there is no key %q; did you mean %q?", m[1], m[2], nearest(m[2]))
	}
	return err
}

// Key is one key of the configuration.
type Key struct {
	Name  string // "api.listen"
	Env   string // "TROVE_API_LISTEN"
	Doc   string
	Value any
	field reflect.Value
}

// Keys returns all keys in the order of the struct, with their values.
func (c *Config) Keys() []Key { return keys(reflect.ValueOf(c).Elem(), "") }

func keys(v reflect.Value, prefix string) []Key {
	var all []Key
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := prefix + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct {
			all = append(all, keys(v.Field(i), name+".")...)
			continue
		}
		all = append(all, Key{
			Name: name, Env: "TROVE_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_")),
			Doc: f.Tag.Get("doc"), Value: v.Field(i).Interface(), field: v.Field(i),
		})
	}
	return all
}

// overlay sets what the environment names. A TROVE_ variable that names no key is ignored: other tools may use the prefix.
func overlay(c *Config, environ []string) error {
	byEnv := map[string]Key{}
	for _, k := range c.Keys() {
		byEnv[k.Env] = k
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		k, ok := byEnv[name]
		if !ok {
			continue
		}
		if err := set(k.field, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func set(f reflect.Value, text string) error {
	switch f.Interface().(type) {
	case string:
		f.SetString(text)
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		f.SetInt(int64(n))
	case float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		f.SetFloat(n)
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 10s", text)
		}
		f.SetInt(int64(d))
	default:
		return yaml.Unmarshal([]byte(text), f.Addr().Interface())
	}
	return nil
}

// nearest returns the last part of the key that takes the fewest changes.
func nearest(word string) string {
	c := Default()
	var names []string
	for _, k := range c.Keys() {
		names = append(names, strings.Split(k.Name, ".")...)
	}
	return slices.MinFunc(names, func(a, b string) int { return distance(word, a) - distance(word, b) })
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

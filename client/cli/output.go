package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"
)

// row is one line of a result: the cells by column. A cell is a string, a number, a bool, nil or a list of strings.
type row []any

func (a *app) checkFormat() error {
	if slices.Contains([]string{"table", "json", "yaml", "csv", "value"}, a.format) {
		return nil
	}
	return usagef("--format: %q is none of table, json, yaml, csv, value.", a.format)
}

// choose keeps the columns that --column names, in that order; names compare without regard to case, and "_" and " " are the same.
func (a *app) choose(columns []string, rows []row) ([]string, []row, error) {
	if len(a.column) == 0 {
		return columns, rows, nil
	}
	var index []int
	for _, want := range a.column {
		i := slices.IndexFunc(columns, func(c string) bool { return normal(c) == normal(want) })
		if i < 0 {
			return nil, nil, usagef("--column: there is no column %q; there are %s.", want, strings.Join(columns, ", "))
		}
		index = append(index, i)
	}
	pick := func(all row) row {
		r := make(row, 0, len(index))
		for _, i := range index {
			r = append(r, all[i])
		}
		return r
	}
	chosen := make([]string, 0, len(index))
	for _, i := range index {
		chosen = append(chosen, columns[i])
	}
	out := make([]row, 0, len(rows))
	for _, r := range rows {
		out = append(out, pick(r))
	}
	return chosen, out, nil
}

func normal(s string) string { return strings.ReplaceAll(strings.ToLower(s), " ", "_") }

// list shows many things, one a line.
func (a *app) list(columns []string, rows []row) error {
	columns, rows, err := a.choose(columns, rows)
	if err != nil {
		return err
	}
	switch a.format {
	case "json", "yaml":
		all := make([]object, 0, len(rows))
		for _, r := range rows {
			all = append(all, object{columns, r})
		}
		return a.marshal(all)
	case "csv":
		return a.csv(columns, rows)
	case "value":
		for _, r := range rows {
			a.value(r)
		}
		return nil
	}
	a.table(columns, rows, alignments(rows))
	return nil
}

// show shows one thing, a field a line.
func (a *app) show(columns []string, r row) error {
	columns, rows, err := a.choose(columns, []row{r})
	if err != nil {
		return err
	}
	r = rows[0]
	switch a.format {
	case "json", "yaml":
		return a.marshal(object{columns, r})
	case "csv":
		return a.csv(columns, rows)
	case "value":
		for _, cell := range r {
			fmt.Fprintln(a.env.Stdout, cellText(cell))
		}
		return nil
	}
	fields := make([]row, 0, len(columns))
	for i, c := range columns {
		fields = append(fields, row{c, r[i]})
	}
	a.table([]string{"Field", "Value"}, fields, nil)
	return nil
}

// object is a row with its names. It is written in the order of the columns.
type object struct {
	columns []string
	cells   row
}

// MarshalJSON writes the object.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i, c := range o.columns {
		b.WriteByte("{,"[min(i, 1)])
		if err := e.Encode(normal(c)); err != nil {
			return nil, fmt.Errorf("write the name %s: %w", c, err)
		}
		b.WriteByte(':')
		if err := e.Encode(present(o.cells[i])); err != nil {
			return nil, fmt.Errorf("write %s: %w", c, err)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// MarshalYAML writes the object.
func (o object) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i, c := range o.columns {
		var name, value yaml.Node
		if err := errors.Join(name.Encode(normal(c)), value.Encode(present(o.cells[i]))); err != nil {
			return nil, fmt.Errorf("write %s: %w", c, err)
		}
		n.Content = append(n.Content, &name, &value)
	}
	return n, nil
}

// present makes a list that is nil an empty one, so that scripts may count on a list.
func present(cell any) any {
	if list, ok := cell.([]string); ok && list == nil {
		return []string{}
	}
	return cell
}

func (a *app) marshal(v any) error {
	if a.format == "yaml" {
		e := yaml.NewEncoder(a.env.Stdout)
		e.SetIndent(2)
		return e.Encode(v)
	}
	e := json.NewEncoder(a.env.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) csv(columns []string, rows []row) error {
	w := csv.NewWriter(a.env.Stdout)
	_ = w.Write(columns) // Error reports it
	for _, r := range rows {
		cells := make([]string, 0, len(r))
		for _, c := range r {
			text := cellText(c)
			if c == nil {
				text = ""
			}
			cells = append(cells, text)
		}
		_ = w.Write(cells)
	}
	w.Flush()
	return w.Error()
}

func (a *app) value(r row) {
	cells := make([]string, 0, len(r))
	for _, c := range r {
		cells = append(cells, cellText(c))
	}
	fmt.Fprintln(a.env.Stdout, strings.Join(cells, " "))
}

// alignments are those of the openstack client: a column of numbers, by its first cell, goes to the right.
func alignments(rows []row) []table.ColumnConfig {
	var all []table.ColumnConfig
	if len(rows) == 0 {
		return nil
	}
	for n, cell := range rows[0] {
		switch cell.(type) {
		case int, int64, float64:
			all = append(all, table.ColumnConfig{Number: n + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	return all
}

// table draws what the openstack client draws, which is an empty line where there is nothing.
func (a *app) table(columns []string, rows []row, align []table.ColumnConfig) {
	if len(rows) == 0 {
		fmt.Fprintln(a.env.Stdout)
		return
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SetColumnConfigs(align)
	t.SetOutputMirror(a.env.Stdout)
	header := make(table.Row, 0, len(columns))
	for _, c := range columns {
		header = append(header, c)
	}
	t.AppendHeader(header)
	for _, r := range rows {
		line := make(table.Row, 0, len(r))
		for _, c := range r {
			line = append(line, cellText(c))
		}
		t.AppendRow(line)
	}
	t.Render()
}

// cellText is a cell as Python prints it, so that scripts may change from one client to the other.
func cellText(cell any) string {
	switch v := cell.(type) {
	case nil:
		return "None"
	case string:
		return v
	case []string:
		return strings.Join(v, ", ")
	case bool:
		if v {
			return "True"
		}
		return "False"
	case float64:
		text := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	}
	return fmt.Sprint(cell)
}

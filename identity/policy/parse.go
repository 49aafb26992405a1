package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxDepth bounds the brackets of a rule.
const maxDepth = 64

// parse reads a rule:
//
//	rule = ""                        always
//	     | terms joined by "and" and "or", of which "and" binds closer
//	term = "not" term | "(" or ")" | "@" | "!" | kind ":" value
//
// Key words are read without regard to case, and brackets may touch the checks, as in oslo.policy.
func parse(text string) (check, error) {
	tokens := tokenize(text)
	if len(tokens) == 0 {
		return constant(true), nil
	}
	p := &parser{tokens: tokens}
	c, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.pos < len(tokens) {
		return nil, fmt.Errorf("%q is not expected here", tokens[p.pos])
	}
	return c, nil
}

// tokenize splits at white space, and brackets off the ends of words. A bracket inside a word (%(tenant)s) belongs to it.
func tokenize(text string) []string {
	var tokens []string
	for word := range strings.FieldsSeq(text) {
		inner := strings.TrimLeft(word, "(")
		tokens = append(tokens, slices.Repeat([]string{"("}, len(word)-len(inner))...)
		trimmed := strings.TrimRight(inner, ")")
		if trimmed != "" {
			tokens = append(tokens, trimmed)
		}
		tokens = append(tokens, slices.Repeat([]string{")"}, len(inner)-len(trimmed))...)
	}
	return tokens
}

// parseList reads a rule in the old form of policy.json: alternatives, each a check or a list of checks that must all hold. No alternatives at all, as
// an empty rule, are always; alternatives that are all empty are never, as in oslo.policy.
func parseList(alternatives []any) (check, error) {
	if len(alternatives) == 0 {
		return constant(true), nil
	}
	var or anyOf
	for _, a := range alternatives {
		items, several := a.([]any)
		if !several {
			items = []any{a}
		}
		var and all
		for _, item := range items {
			text, ok := item.(string)
			if !ok || len(strings.Fields(text)) != 1 {
				return nil, fmt.Errorf("in a list of checks stands %v, which is no single check", item)
			}
			c, err := parse(text)
			if err != nil {
				return nil, err
			}
			and = append(and, c)
		}
		if len(and) > 0 {
			or = append(or, and)
		}
	}
	return or, nil
}

type parser struct {
	tokens []string
	pos    int
}

var errEnd = errors.New("the rule ends where a check is expected")

func (p *parser) keyword(word string) bool {
	if p.pos < len(p.tokens) && strings.EqualFold(p.tokens[p.pos], word) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) or(depth int) (check, error) {
	c, err := p.and(depth)
	if err != nil {
		return nil, err
	}
	list := anyOf{c}
	for p.keyword("or") {
		if c, err = p.and(depth); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return list, nil
}

func (p *parser) and(depth int) (check, error) {
	c, err := p.term(depth)
	if err != nil {
		return nil, err
	}
	list := all{c}
	for p.keyword("and") {
		if c, err = p.term(depth); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return list, nil
}

func (p *parser) term(depth int) (check, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d brackets inside each other", maxDepth)
	}
	if p.pos == len(p.tokens) {
		return nil, errEnd
	}
	token := p.tokens[p.pos]
	p.pos++
	switch strings.ToLower(token) {
	case "not":
		c, err := p.term(depth + 1)
		return not{c}, err
	case "(":
		c, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.keyword(")") {
			return nil, errors.New("a bracket is not closed")
		}
		return c, nil
	case ")", "and", "or":
		return nil, fmt.Errorf("%q stands where a check is expected", token)
	case "@":
		return constant(true), nil
	case "!":
		return constant(false), nil
	}
	return parseCheck(token)
}

// parseCheck reads kind:value. A kind that is not known is an error: oslo.policy takes it as the name of some credential, and a misspelt
// rule then silently denies, or with "not" before it allows.
func parseCheck(token string) (check, error) {
	kind, value, ok := strings.Cut(token, ":") // a literal has no colon: oslo.policy cuts there too
	if !ok {
		return nil, fmt.Errorf("%q is no check: it has no colon", token)
	}
	v, err := parseTemplate(value)
	if err != nil {
		return nil, err
	}
	_, known := attributes[kind]
	if _, list := lists[kind]; known || list {
		return attribute{kind, v}, nil
	}
	switch kind {
	case "rule":
		if value == "" {
			return nil, errors.New("rule: without a name")
		}
		return ruleRef(value), nil
	case "role":
		return role{v}, nil
	case "True", "False", "None":
		return literal{kind, v}, nil
	}
	if n := len(kind); n >= 2 && (kind[0] == '\'' || kind[0] == '"') && kind[n-1] == kind[0] {
		return literal{kind[1 : n-1], v}, nil
	}
	return nil, fmt.Errorf("%q: checks of kind %q are not known", token, kind)
}

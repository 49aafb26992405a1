package troveimport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// dump holds the tables of a dump that mysqldump or mariadb-dump wrote.
type dump struct {
	columns map[string][]string
	rows    map[string][]record
}

// maxStatement bounds a statement of a dump, in bytes: the programs that write them keep to 16 MiB.
const maxStatement = 256 << 20

func openDump(path string) (*Source, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, trove.Errorf(trove.KindNotFound, "There is no file %s.", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	defer f.Close()
	d := dump{columns: map[string][]string{}, rows: map[string][]record{}}
	if err := d.read(f); err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "%s cannot be read as a dump: %v.", path, err)
	}
	return &Source{dump: &d}, nil
}

var (
	createPattern = regexp.MustCompile("(?is)^CREATE TABLE (?:IF NOT EXISTS )?[`\"]?([A-Za-z0-9_]+)[`\"]? ?\\((.*)\\)")
	columnPattern = regexp.MustCompile("(?m)^\\s*[`\"]([A-Za-z0-9_]+)[`\"] ")
	insertPattern = regexp.MustCompile("(?is)^INSERT INTO [`\"]?([A-Za-z0-9_]+)[`\"]?\\s*(\\([^)]*\\))?\\s*VALUES\\s*")
	namePattern   = regexp.MustCompile("[A-Za-z0-9_]+")
)

func (d *dump) read(from io.Reader) error {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		statement, err := nextStatement(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if m := createPattern.FindStringSubmatch(statement); m != nil {
			for _, c := range columnPattern.FindAllStringSubmatch(m[2], -1) {
				d.columns[m[1]] = append(d.columns[m[1]], c[1])
			}
		} else if m := insertPattern.FindStringSubmatch(statement); m != nil {
			columns := d.columns[m[1]]
			if m[2] != "" {
				columns = namePattern.FindAllString(m[2], -1)
			}
			if err := d.insert(m[1], columns, statement[len(m[0]):]); err != nil {
				return fmt.Errorf("table %s: %w", m[1], err)
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the end of the file
		}
	}
}

// nextStatement reads up to a semicolon that is in no text, and leaves out comments before it.
func nextStatement(r *bufio.Reader) (string, error) {
	var b strings.Builder
	inText, escaped := false, false
	for b.Len() < maxStatement {
		c, err := r.ReadByte()
		if err != nil {
			return b.String(), err
		}
		if b.Len() == 0 {
			if strings.IndexByte(" \r\n\t", c) >= 0 {
				continue
			}
			if next, _ := r.Peek(1); c == '-' && string(next) == "-" {
				if _, err := r.ReadString('\n'); err != nil {
					return "", err
				}
				continue
			}
		}
		switch {
		case escaped:
			escaped = false
		case inText && c == '\\':
			escaped = true
		case c == '\'':
			inText = !inText
		case !inText && c == ';':
			return b.String(), nil
		}
		b.WriteByte(c)
	}
	return "", errors.New("a statement has no end")
}

// insert reads the rows after VALUES.
func (d *dump) insert(table string, columns []string, text string) error {
	for rest := text; ; {
		rest = strings.TrimLeft(rest, " \r\n\t,")
		if rest == "" {
			return nil
		}
		if rest[0] != '(' {
			return fmt.Errorf("a row begins with %q", rest[:1])
		}
		row := record{}
		rest = rest[1:]
		for n := 0; ; n++ {
			value, null, after, err := nextValue(rest)
			if err != nil {
				return err
			}
			if n >= len(columns) {
				return errors.New("a row has more values than there are columns")
			}
			if !null {
				row[columns[n]] = value
			}
			rest = after[1:]
			if after[0] == ')' {
				break
			}
		}
		d.rows[table] = append(d.rows[table], row)
	}
}

var unescape = map[byte]byte{'0': 0, 'n': '\n', 'r': '\r', 't': '\t', 'b': '\b', 'Z': 26}

// nextValue reads a value; after it comes a comma or a closing parenthesis.
func nextValue(text string) (value string, null bool, after string, err error) {
	text = strings.TrimLeft(text, " \r\n\t")
	text = strings.TrimPrefix(text, "_binary ")
	if !strings.HasPrefix(text, "'") {
		end := strings.IndexAny(text, ",)")
		if end < 0 {
			return "", false, "", errors.New("a row has no end")
		}
		word := strings.TrimSpace(text[:end])
		return word, strings.EqualFold(word, "NULL"), text[end:], nil
	}
	var b strings.Builder
	for n := 1; n < len(text); n++ {
		c := text[n]
		switch {
		case c == '\\' && n+1 < len(text):
			n++
			if to, ok := unescape[text[n]]; ok {
				b.WriteByte(to)
			} else {
				b.WriteByte(text[n])
			}
		case c == '\'' && strings.HasPrefix(text[n+1:], "'"):
			n++
			b.WriteByte(c)
		case c == '\'':
			rest := strings.TrimLeft(text[n+1:], " \r\n\t")
			if rest == "" || rest[0] != ',' && rest[0] != ')' {
				return "", false, "", errors.New("after a text there is neither a comma nor the end of the row")
			}
			return b.String(), false, rest, nil
		default:
			b.WriteByte(c)
		}
	}
	return "", false, "", errors.New("a text has no end")
}

package file

import (
	"encoding/hex"
	"strings"
)

// The endings of encoded segments. A file and a directory of the same segment ("a" and "a/b" are both names) differ by them, and nothing that a name says
// can look like one: encode leaves no dot.
const (
	objectEnd    = ".o"
	directoryEnd = ".d"
)

const plain = "abcdefghijklmnopqrstuvwxyz0123456789-_"

// encode turns a segment into a file name that means nothing to a file system: lower-case letters, digits, - and _ stand for themselves, every other byte is % and
// two digits. File systems that fold case or normalise Unicode cannot make two of them one. At most three times as long.
func encode(segment string) string {
	var b strings.Builder
	for i := range len(segment) {
		if c := segment[i]; strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

// decode is the reverse; not ok for what encode cannot have made.
func decode(encoded string) (segment string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(encoded) {
			return "", false
		}
		raw, err := hex.DecodeString(encoded[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b.Write(raw)
		i += 2
	}
	segment = b.String()
	return segment, segment != "" && encode(segment) == encoded
}

// split returns the directories and the file of a name.
func split(name string) (directories []string, file string) {
	segments := strings.Split(name, "/")
	last := len(segments) - 1
	for _, s := range segments[:last] {
		directories = append(directories, encode(s)+directoryEnd)
	}
	return directories, encode(segments[last]) + objectEnd
}

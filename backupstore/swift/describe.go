package swift

import (
	"encoding/base64"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/trove-dbaas/trove/backupstore"
)

// What is known of an object is in headers. Plain metadata are headers of their own, as other clients of Swift look for them, and all of it is in one text besides,
// in lines that Swift takes: names of headers know no case and values only ASCII. The hash is in the type of the content too, because that is what listings show.
const (
	metaPrefix = "X-Object-Meta-"
	sumHeader  = metaPrefix + "Trove-Sha256"
	textHeader = metaPrefix + "Trove-Meta-"
	sumParam   = "trove-sha256"
	mediaType  = "application/octet-stream"
	lineLength = 240 // Swift takes 256
)

// describe returns the headers of an object.
func describe(o backupstore.Object) map[string]string {
	h := map[string]string{sumHeader: o.SHA256, "Content-Type": mediaType + "; " + sumParam + "=" + o.SHA256}
	var text []byte
	for _, k := range slices.Sorted(maps.Keys(o.Meta)) {
		v := o.Meta[k]
		text = append(append(append(append(text, k...), 0), v...), 0)
		if plain(k, v) {
			h[metaPrefix+k] = v
		}
	}
	encoded := base64.RawURLEncoding.EncodeToString(text)
	for n := 0; encoded != ""; n++ {
		line := encoded[:min(lineLength, len(encoded))]
		h[textHeader+strconv.Itoa(n)], encoded = line, encoded[len(line):]
	}
	return h
}

// plain reports whether metadata can be a header of its own.
func plain(key, value string) bool {
	for _, r := range key {
		if (r < 'a' || r > 'z') && r != '-' {
			return false
		}
	}
	for _, r := range value {
		if r < ' ' || r >= utf8.RuneSelf {
			return false
		}
	}
	return len(value) <= lineLength && value == strings.TrimSpace(value) && value != "" && !strings.HasPrefix(key, "trove-")
}

// found is an object as Swift has it.
type found struct {
	backupstore.Object
	large  bool    // it is in pieces
	pieces []piece // where they were asked for
}

// read reads the headers of an object. One that others have stored has no hash.
func read(name string, h http.Header) (found, error) {
	f := found{Object: backupstore.Object{Name: name, SHA256: h.Get(sumHeader)}, large: strings.EqualFold(h.Get("X-Static-Large-Object"), "true")}
	var err error
	if f.Size, err = strconv.ParseInt(h.Get("Content-Length"), 10, 64); err != nil {
		return found{}, fmt.Errorf("read what Swift knows of an object: its size: %w", err)
	}
	if f.Modified, err = http.ParseTime(h.Get("Last-Modified")); err != nil {
		return found{}, fmt.Errorf("read what Swift knows of an object: its time: %w", err)
	}
	var encoded strings.Builder
	for n := 0; ; n++ {
		line := h.Get(textHeader + strconv.Itoa(n))
		if line == "" {
			break
		}
		encoded.WriteString(line)
	}
	text, err := base64.RawURLEncoding.DecodeString(encoded.String())
	if err != nil {
		return found{}, fmt.Errorf("read what Swift knows of an object: its metadata: %w", err)
	}
	for fields := strings.Split(string(text), "\x00"); len(fields) > 2; fields = fields[2:] {
		if f.Meta == nil {
			f.Meta = map[string]string{}
		}
		f.Meta[fields[0]] = fields[1]
	}
	return f, nil
}

// listed is an object in a listing.
type listed struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Type     string `json:"content_type"`
	Modified string `json:"last_modified"`
}

func (l listed) object() (backupstore.Object, error) {
	at, err := time.Parse("2006-01-02T15:04:05.999999", l.Modified)
	if err != nil {
		return backupstore.Object{}, fmt.Errorf("read a listing of Swift: the time of an object: %w", err)
	}
	o := backupstore.Object{Name: l.Name, Size: l.Bytes, Modified: at.Truncate(time.Second)}
	if !o.Modified.Equal(at) {
		o.Modified = o.Modified.Add(time.Second) // the header is in whole seconds, rounded up
	}
	if _, params, err := mime.ParseMediaType(l.Type); err == nil {
		o.SHA256 = params[sumParam]
	}
	return o, nil
}

package guestapi

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// What guests and the object gateway agree on. An object is at a URL of the grant, then ObjectPath, then its name, which needs no escaping.
const (
	ObjectPath = "/v1/objects/"

	HeaderSignature = "Trove-Signature"      // base64 of the guest's signature over ObjectText
	HeaderSHA256    = "Trove-Content-Sha256" // of the object, lower-case hexadecimal; with PUT as a trailer where it is not known before
	HeaderLines     = "Trove-Object-Lines"   // with PUT: how many lines of text the object has, if it is text

	// ObjectExporter is the label of the keying material, RFC 8446 section 7.5, that binds a signature to one TLS connection.
	ObjectExporter     = "EXPORTER-Trove-Object-Gateway"
	ObjectExporterSize = 32
)

// ObjectText is what a guest signs for a request: the token, what is to be done, and the TLS connection, so that the signature is worth nothing on another
// one. It begins with words, so that it is worth nothing elsewhere.
func ObjectText(method, name, token string, exported []byte) []byte {
	sum := sha256.Sum256([]byte(token))
	return []byte("trove object request v1\n" + method + "\n" + name + "\n" + hex.EncodeToString(sum[:]) + "\n" + hex.EncodeToString(exported))
}

// maxObjectName is what every store can hold.
const maxObjectName = 512

var objectSegment = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._:+=@-]{0,79}$`)

// CheckObjectName returns an error of kind BadRequest if a guest cannot read or write an object of this name. What passes looks the same in a URL, a file system and
// a store: segments of letters, digits and ._:+=@- that do not begin with a mark, divided by single slashes.
func CheckObjectName(name string) error {
	if len(name) <= maxObjectName {
		for segment := range strings.SplitSeq(name, "/") {
			if !objectSegment.MatchString(segment) {
				return badObjectName(name)
			}
		}
		return nil
	}
	return badObjectName(name)
}

func badObjectName(name string) error {
	const most = 100
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return trove.Errorf(trove.KindBadRequest, "%q cannot be the name of an object.", name)
}

// StoredObject is the body of the answer to PUT.
type StoredObject struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

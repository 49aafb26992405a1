package trove

import (
	"encoding/json"
	"log/slog"
)

// Secret is a password, key or token. It cannot be printed, logged or marshalled by accident: every such way shows "***". Reveal is the
// one way to the text, so that each use can be found. It must not be the key of a map: encoding/json writes keys of a string kind as they are.
type Secret string

const hidden = "***"

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (Secret) String() string { return hidden }

// GoString hides the text from %#v.
func (Secret) GoString() string { return hidden }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON hides the text. A body that must carry a secret has a field of type string, filled with Reveal.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// MarshalText hides the text from encoders that know only encoding.TextMarshaler, YAML among them.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// UnmarshalJSON reads the text: secrets may come in, they do not go out.
func (s *Secret) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, (*string)(s)) }

// UnmarshalText reads the text.
func (s *Secret) UnmarshalText(data []byte) error {
	*s = Secret(data)
	return nil
}

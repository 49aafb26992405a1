package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// strict reads exactly one JSON value; an unknown key is an error, since it is a misspelt one.
func strict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the value")
	}
	return nil
}

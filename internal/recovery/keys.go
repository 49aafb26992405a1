package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	trove "github.com/trove-dbaas/trove"
)

// GenerateKey makes a recovery key in a file of mode 0600, which must not exist yet, and returns its public half.
func GenerateKey(path string) (recipient string, err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("make a recovery key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return "", trove.Errorf(trove.KindConflict, "%s exists already; a recovery key is never replaced. Choose another file.", path)
	}
	if err != nil {
		return "", fmt.Errorf("write the recovery key: %w", err)
	}
	recipient = identity.Recipient().String()
	_, err = fmt.Fprintf(f, "# Recovery key of Trove. Keep it away from the machines whose exports it opens.\n# public: %s\n%s\n", recipient, identity)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write the recovery key: %w", err), os.Remove(path))
	}
	return recipient, nil
}

// ParseRecipients reads public halves of recovery keys. None at all is an error, too: an export that nobody can open helps nobody.
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	if len(texts) == 0 {
		return nil, trove.Errorf(trove.KindBadRequest,
			"No recovery key is known. `trove manage recovery-key generate` makes one; its public half goes to recovery.recipients in the configuration, or to --recipient.")
	}
	all := make([]age.Recipient, 0, len(texts))
	for _, text := range texts {
		if strings.HasPrefix(strings.TrimSpace(strings.ToUpper(text)), "AGE-SECRET-KEY") {
			return nil, trove.Errorf(trove.KindBadRequest, "A secret recovery key stands where its public half (age1...) belongs. Remove it from there and make a new one.")
		}
		found, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, trove.Wrap(trove.KindBadRequest, err, "%q is not the public half of a recovery key (age1...).", text)
		}
		all = append(all, found...)
	}
	return all, nil
}

// ReadIdentities reads the secret halves from a file. What is in the file is never part of an error.
func ReadIdentities(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, trove.Errorf(trove.KindBadRequest, "Name the file with the recovery key: --identity FILE.")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The recovery key cannot be read: %v.", err)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		return nil, trove.Errorf(trove.KindBadRequest, "%s holds no recovery key (AGE-SECRET-KEY-1...).", path) // the cause may show what is in it
	}
	return ids, nil
}

// decrypt opens an export.
func decrypt(r io.Reader, ids []age.Identity) (io.Reader, error) {
	plain, err := age.Decrypt(r, ids...)
	if _, no := errors.AsType[*age.NoIdentityMatchError](err); no {
		return nil, trove.Wrap(trove.KindForbidden, err, "The export was not made for this recovery key.")
	}
	if err != nil {
		return nil, damaged("%v", err)
	}
	return plain, nil
}

package store

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// continueToken is upstream's format, so that a client can go on with another server.
type continueToken struct {
	APIVersion string `json:"v"`
	// ResourceVersion is the list's; -1 means inconsistent: at whatever is newest.
	ResourceVersion int64  `json:"rv"`
	StartKey        string `json:"start"`
}

const continueVersion = "meta.k8s.io/v1"

var (
	errContinueEncoding = errors.New("continue key is not valid")
	errContinueVersion  = errors.New("continue key is not valid: server does not recognize this encoded version")
	errContinueStart    = errors.New("continue key is not valid: encoded start resourceVersion or start key missing")
)

func encodeContinue(key, prefix string, rev int64) string {
	next := strings.TrimPrefix(key, prefix) + "\x00"
	b, err := json.Marshal(continueToken{APIVersion: continueVersion, ResourceVersion: rev, StartKey: next})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeContinue gives the key to start from and the revision to read at.
func decodeContinue(token, prefix string) (from string, rev int64, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", errContinueEncoding, err)
	}
	var c continueToken
	if err := json.Unmarshal(b, &c); err != nil {
		return "", 0, fmt.Errorf("%w: %w", errContinueEncoding, err)
	}
	if c.APIVersion != continueVersion {
		return "", 0, errContinueVersion
	}
	if c.ResourceVersion == 0 || c.StartKey == "" {
		return "", 0, errContinueStart
	}
	key := c.StartKey
	if strings.HasPrefix(key, "/") || strings.Contains("/"+key+"/", "/../") || strings.Contains("/"+key+"/", "/./") {
		return "", 0, errContinueEncoding
	}
	return prefix + key, c.ResourceVersion, nil
}

// encodeContinueAt is a token that starts at a key itself.
func encodeContinueAt(key, prefix string, rev int64) string {
	b, err := json.Marshal(continueToken{APIVersion: continueVersion, ResourceVersion: rev, StartKey: strings.TrimPrefix(key, prefix)})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

package bootstrap

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// hashed is a name made of any text.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

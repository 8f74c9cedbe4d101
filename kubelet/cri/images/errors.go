package images

import "errors"

// Failures a caller can act on.
var (
	// ErrNotFound says that an image is not in the store, or not in its registry.
	ErrNotFound = errors.New("not found")
	// ErrInvalid says that a reference or an image is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthorized says that the registry refuses the credentials.
	ErrUnauthorized = errors.New("unauthorized")
)

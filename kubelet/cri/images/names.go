package images

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// dockerHub is the registry of names without one, as people write it;
// go-containerregistry uses the server's name.
const (
	dockerHub       = "docker.io"
	dockerHubServer = "index.docker.io"
)

// Normalize completes a reference: docker.io, library/ and :latest are added
// where they are left out.
func Normalize(ref string) (string, error) {
	r, err := parse(ref)
	if err != nil {
		return "", err
	}
	return fullName(r), nil
}

func parse(ref string) (name.Reference, error) {
	if ref == "" {
		return nil, fmt.Errorf("image name: %w: empty", ErrInvalid)
	}
	// A reference with both tag and digest is the digest's.
	if at := strings.Index(ref, "@"); at > 0 {
		if _, err := name.NewDigest(ref); err != nil {
			return nil, fmt.Errorf("failed to parse reference %q: %w: invalid reference format", ref, ErrInvalid)
		}
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("failed to parse reference %q: %w: invalid reference format", ref, ErrInvalid)
	}
	return r, nil
}

func fullName(r name.Reference) string {
	repo := repository(r.Context())
	if d, ok := r.(name.Digest); ok {
		return repo + "@" + d.DigestStr()
	}
	return repo + ":" + r.Identifier()
}

func repository(r name.Repository) string {
	return registryHost(r) + "/" + r.RepositoryStr()
}

func registryHost(r name.Repository) string {
	if host := r.RegistryStr(); host != dockerHubServer {
		return host
	}
	return dockerHub
}

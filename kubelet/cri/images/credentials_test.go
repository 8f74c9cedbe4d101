package images

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

// A pull's credentials go to the registry that they are for, also where it has no TLS,
// and to mirrors; never in the clear to a host that they were not given for.
//
// Covers: node.images
func TestWhoGetsCredentials(t *testing.T) {
	request := authn.FromConfig(authn.AuthConfig{Username: "pod", Password: "p"})
	for _, tt := range []struct {
		name, registry string
		mirrors        []string
		config         map[string]RegistryConfig
		want           []string // by endpoint
	}{
		{name: "the registry", registry: "r.example", want: []string{"pod"}},
		{name: "the registry without TLS", registry: "r.example:5000", mirrors: []string{"http://r.example:5000"}, want: []string{"pod"}},
		{name: "the same host at another port", registry: "r.example", mirrors: []string{"http://r.example:5000"}, want: []string{"", "pod"}},
		{name: "a mirror", registry: "r.example", mirrors: []string{"https://m.example"}, want: []string{"pod", "pod"}},
		{name: "a mirror without TLS", registry: "r.example", mirrors: []string{"http://m.example"}, want: []string{"", "pod"}},
		{name: "a mirror on the machine", registry: "r.example", mirrors: []string{"http://127.0.0.1:5000"}, want: []string{"pod", "pod"}},
		{name: "a mirror with its own", registry: "r.example", mirrors: []string{"http://m.example"},
			config: map[string]RegistryConfig{"m.example": {Auth: &RegistryAuth{Username: "mirror", Password: "p"}}}, want: []string{"mirror", "pod"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Registries{Mirrors: map[string]Mirror{tt.registry: {Endpoints: tt.mirrors}}, Configs: tt.config}
			list := r.endpoints(tt.registry, "app")
			if len(list) != len(tt.want) {
				t.Fatalf("%d endpoints, want %d", len(list), len(tt.want))
			}
			for i, e := range list {
				got, err := e.authenticator(request).Authorization()
				if err != nil {
					t.Fatal(err)
				}
				if got.Username != tt.want[i] {
					t.Errorf("%s://%s is told to be %q, want %q", e.scheme, e.host, got.Username, tt.want[i])
				}
			}
		})
	}
}

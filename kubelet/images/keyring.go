package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// Keyring finds credentials for an image.
type Keyring struct {
	// Files are config.json files of the node, the first that exists counts.
	Files []string
	// Providers are asked last; nil for none.
	Providers *Providers
}

type dockerConfig map[string]dockerEntry

type dockerEntry struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
	Token    string `json:"identitytoken"`
}

// Credential is one that may open a registry, and whose it is: a pull secret's, a
// service account's, or else the node's own.
type Credential struct {
	Auth           *runtimeapi.AuthConfig
	Secret         *kubeletv1beta1.ImagePullSecret
	ServiceAccount *kubeletv1beta1.ImagePullServiceAccount
}

// ofNode tells of a credential that every pod of the node has; none at all is one.
func (c *Credential) ofNode() bool { return c == nil || c.Secret == nil && c.ServiceAccount == nil }

// Lookup returns the credentials that fit the image: those of the pod's pull
// secrets, then the node's, the most specific first, then what programs know.
func (k *Keyring) Lookup(ctx context.Context, pod *v1.Pod, image string, secrets []v1.Secret) []Credential {
	var out []Credential
	for i := range secrets {
		s := &secrets[i]
		for _, auth := range secretConfig(s).match(image) {
			of := &kubeletv1beta1.ImagePullSecret{UID: string(s.UID), Namespace: s.Namespace, Name: s.Name, CredentialHash: hash(auth)}
			out = append(out, Credential{Auth: auth, Secret: of})
		}
	}
	for _, file := range k.Files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if cfg := parseConfigJSON(data); cfg != nil {
			for _, auth := range cfg.match(image) {
				out = append(out, Credential{Auth: auth})
			}
			break
		}
	}
	if k.Providers != nil {
		out = append(out, k.Providers.Lookup(ctx, pod, image)...)
	}
	return out
}

// hash tells the contents of credentials apart; empty where it cannot.
func hash(auth *runtimeapi.AuthConfig) string {
	raw, err := json.Marshal([]string{auth.Username, auth.Password, auth.IdentityToken, auth.ServerAddress})
	if err != nil {
		return ""
	}
	return digest(string(raw))
}

func secretConfig(s *v1.Secret) dockerConfig {
	switch s.Type {
	case v1.SecretTypeDockerConfigJson:
		return parseConfigJSON(s.Data[v1.DockerConfigJsonKey])
	case v1.SecretTypeDockercfg:
		cfg := dockerConfig{}
		if json.Unmarshal(s.Data[v1.DockerConfigKey], &cfg) == nil {
			return cfg
		}
	}
	return nil
}

func parseConfigJSON(data []byte) dockerConfig {
	doc := struct {
		Auths dockerConfig `json:"auths"`
	}{}
	if json.Unmarshal(data, &doc) != nil {
		return nil
	}
	return doc.Auths
}

func (c dockerConfig) match(image string) []*runtimeapi.AuthConfig {
	ref, err := name.ParseReference(image, name.WeakValidation)
	if err != nil {
		return nil
	}
	host := ref.Context().RegistryStr()
	repo := ref.Context().RepositoryStr()
	var keys []string
	for key := range c {
		if keyMatches(key, host, repo) {
			keys = append(keys, key)
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(keys)))
	var out []*runtimeapi.AuthConfig
	for _, key := range keys {
		e := c[key]
		if e.Auth != "" && e.Username == "" {
			raw, err := base64.StdEncoding.DecodeString(e.Auth)
			if err != nil {
				if raw, err = base64.RawStdEncoding.DecodeString(e.Auth); err != nil {
					continue
				}
			}
			e.Username, e.Password, _ = strings.Cut(string(raw), ":")
		}
		out = append(out, &runtimeapi.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.Token, ServerAddress: host})
	}
	return out
}

// keyMatches compares a key, which is a host with optional scheme, port, path
// and globs in the host's labels, with a registry and repository.
func keyMatches(key, host, repo string) bool {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	keyHost, keyPath, _ := strings.Cut(key, "/")
	keyPath = strings.Trim(keyPath, "/")
	if keyPath == "v1" || keyPath == "v2" {
		keyPath = ""
	}
	if keyHost == "docker.io" || keyHost == "registry-1.docker.io" {
		keyHost = "index.docker.io"
	}
	want, have := strings.Split(keyHost, "."), strings.Split(host, ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return keyPath == "" || repo == keyPath || strings.HasPrefix(repo, keyPath)
}

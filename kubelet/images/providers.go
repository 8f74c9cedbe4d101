package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sync/singleflight"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1 "k8s.io/kubelet/config/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	providerv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/yaml"
)

const (
	// pluginPatience is how long a plugin may take.
	pluginPatience = time.Minute
	// maxPluginAnswer bounds what one may print.
	maxPluginAnswer = 1 << 20
	// maxKept bounds the answers that are remembered.
	maxKept = 1000
)

// ProvidersConfig says which programs know credentials of registries (KEP-2133).
type ProvidersConfig struct {
	// File is a CredentialProviderConfig, BinDir the folder of its programs. Both are
	// required.
	File, BinDir string
	// Token makes a token of a pod's service account, and ServiceAccount reads it, for
	// providers with tokenAttributes (KEP-4412).
	Token          func(ctx context.Context, pod *v1.Pod, audience string) (string, error)
	ServiceAccount func(ctx context.Context, namespace, name string) (*v1.ServiceAccount, error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Providers asks credential provider plugins.
type Providers struct {
	cfg       ProvidersConfig
	providers []kubeletv1.CredentialProvider
	calls     singleflight.Group

	mu   sync.Mutex // guards kept
	kept map[string]answer
}

type answer struct {
	auth  dockerConfig
	until time.Time
}

// NewProviders reads and checks the configuration.
func NewProviders(cfg ProvidersConfig) (*Providers, error) {
	raw, err := os.ReadFile(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("credential providers: %w", err)
	}
	var conf kubeletv1.CredentialProviderConfig
	if err := yaml.UnmarshalStrict(raw, &conf); err != nil {
		return nil, fmt.Errorf("credential providers: %s: %w", cfg.File, err)
	}
	if err := checkProviders(&conf, cfg.BinDir); err != nil {
		return nil, fmt.Errorf("credential providers: %s: %w", cfg.File, err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Providers{cfg: cfg, providers: conf.Providers, kept: map[string]answer{}}, nil
}

func checkProviders(c *kubeletv1.CredentialProviderConfig, binDir string) error {
	if c.Kind != "CredentialProviderConfig" || !strings.HasPrefix(c.APIVersion, "kubelet.config.k8s.io/v1") {
		return fmt.Errorf("kind %q of %q: want a CredentialProviderConfig of kubelet.config.k8s.io/v1", c.Kind, c.APIVersion)
	}
	if len(c.Providers) == 0 {
		return errors.New("providers: at least one is required")
	}
	var errs []error
	seen := map[string]bool{}
	for i, p := range c.Providers {
		at := fmt.Sprintf("providers[%d]", i)
		bad := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s.%s: %s", at, field, fmt.Sprintf(format, args...)))
		}
		switch {
		case p.Name == "" || p.Name == "." || p.Name == ".." || strings.ContainsAny(p.Name, "/ \\"):
			bad("name", "%q is not the name of a program in the folder of plugins", p.Name)
		case seen[p.Name]:
			bad("name", "%q stands twice", p.Name)
		default:
			if info, err := os.Stat(filepath.Join(binDir, p.Name)); err != nil {
				bad("name", "%v: put the program there", err)
			} else if info.Mode()&0o111 == 0 || info.IsDir() {
				bad("name", "%s is no program", filepath.Join(binDir, p.Name))
			}
		}
		seen[p.Name] = true
		if len(p.MatchImages) == 0 {
			bad("matchImages", "at least one is required")
		}
		if p.DefaultCacheDuration == nil || p.DefaultCacheDuration.Duration < 0 {
			bad("defaultCacheDuration", "a duration of 0s or more is required")
		}
		if v, ok := strings.CutPrefix(p.APIVersion, "credentialprovider.kubelet.k8s.io/"); !ok || v != "v1" && v != "v1beta1" && v != "v1alpha1" {
			bad("apiVersion", "%q: want credentialprovider.kubelet.k8s.io/v1", p.APIVersion)
		}
		if t := p.TokenAttributes; t != nil {
			if t.ServiceAccountTokenAudience == "" {
				bad("tokenAttributes.serviceAccountTokenAudience", "it is required")
			}
			if t.RequireServiceAccount == nil {
				bad("tokenAttributes.requireServiceAccount", "it is required")
			}
			if t.CacheType != kubeletv1.TokenServiceAccountTokenCacheType && t.CacheType != kubeletv1.ServiceAccountServiceAccountTokenCacheType {
				bad("tokenAttributes.cacheType", "%q: want Token or ServiceAccount", t.CacheType)
			}
		}
	}
	return errors.Join(errs...)
}

// Lookup asks those whose images the image is of. What one cannot say is logged: the
// pull may do without.
func (p *Providers) Lookup(ctx context.Context, pod *v1.Pod, image string) []Credential {
	ref, err := name.ParseReference(image, name.WeakValidation)
	if err != nil {
		return nil
	}
	host, repo := ref.Context().RegistryStr(), ref.Context().RepositoryStr()
	var out []Credential
	for i := range p.providers {
		provider := &p.providers[i]
		for _, pattern := range provider.MatchImages {
			if !keyMatches(pattern, host, repo) {
				continue
			}
			auths, of, err := p.ask(ctx, provider, pod, image, host)
			if err != nil {
				p.cfg.Log.Error("a credential provider gave nothing", "provider", provider.Name, "image", image, "err", err)
			}
			for _, auth := range auths.match(image) {
				out = append(out, Credential{Auth: auth, ServiceAccount: of})
			}
			break
		}
	}
	return out
}

// ask returns a provider's answer, and whose service account it is for.
func (p *Providers) ask(ctx context.Context, provider *kubeletv1.CredentialProvider, pod *v1.Pod, image, host string) (dockerConfig, *kubeletv1beta1.ImagePullServiceAccount, error) {
	request := providerv1.CredentialProviderRequest{
		TypeMeta: metav1.TypeMeta{Kind: "CredentialProviderRequest", APIVersion: provider.APIVersion}, Image: image,
	}
	account, of, use, err := p.account(ctx, provider, pod, &request)
	if err != nil || !use {
		return nil, nil, err
	}
	prefix := provider.Name + "\x00" + account + "\x00"
	if auth, ok := p.remembered(prefix+"image\x00"+image, prefix+"registry\x00"+host, prefix+"global"); ok {
		return auth, of, nil
	}
	made, err, _ := p.calls.Do(prefix+image, func() (any, error) {
		response, err := p.run(ctx, provider, &request)
		if err != nil {
			return nil, err
		}
		auth := dockerConfig{}
		for key, a := range response.Auth {
			auth[key] = dockerEntry{Username: a.Username, Password: a.Password}
		}
		keep := provider.DefaultCacheDuration.Duration
		if response.CacheDuration != nil {
			keep = response.CacheDuration.Duration
		}
		switch response.CacheKeyType {
		case providerv1.ImagePluginCacheKeyType:
			p.remember(prefix+"image\x00"+image, auth, keep)
		case providerv1.RegistryPluginCacheKeyType:
			p.remember(prefix+"registry\x00"+host, auth, keep)
		case providerv1.GlobalPluginCacheKeyType:
			p.remember(prefix+"global", auth, keep)
		default:
			return nil, fmt.Errorf("cacheKeyType %q: want Image, Registry or Global", response.CacheKeyType)
		}
		return auth, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return made.(dockerConfig), of, nil
}

// account gives a request the token of the pod's service account, where the provider
// wants one, and tells whose answer it will be. use is false where the provider has
// nothing to do with the pod.
func (p *Providers) account(ctx context.Context, provider *kubeletv1.CredentialProvider, pod *v1.Pod, request *providerv1.CredentialProviderRequest) (who string, of *kubeletv1beta1.ImagePullServiceAccount, use bool, err error) {
	t := provider.TokenAttributes
	if t == nil {
		return "", nil, true, nil
	}
	if pod == nil || pod.Spec.ServiceAccountName == "" || p.cfg.Token == nil {
		return "", nil, !*t.RequireServiceAccount, nil
	}
	sa, err := p.cfg.ServiceAccount(ctx, pod.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return "", nil, false, err
	}
	annotations := map[string]string{}
	for _, key := range t.RequiredServiceAccountAnnotationKeys {
		value, ok := sa.Annotations[key]
		if !ok {
			return "", nil, false, nil
		}
		annotations[key] = value
	}
	for _, key := range t.OptionalServiceAccountAnnotationKeys {
		if value, ok := sa.Annotations[key]; ok {
			annotations[key] = value
		}
	}
	if request.ServiceAccountToken, err = p.cfg.Token(ctx, pod, t.ServiceAccountTokenAudience); err != nil {
		return "", nil, false, fmt.Errorf("a token of service account %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	request.ServiceAccountAnnotations = annotations
	key := any([]any{sa.Namespace, sa.Name, sa.UID, annotations})
	if t.CacheType == kubeletv1.TokenServiceAccountTokenCacheType {
		key = []any{key, request.ServiceAccountToken}
	}
	raw, err := json.Marshal(key)
	if err != nil {
		return "", nil, false, err
	}
	return digest(string(raw)), &kubeletv1beta1.ImagePullServiceAccount{UID: string(sa.UID), Namespace: sa.Namespace, Name: sa.Name}, true, nil
}

// run starts a provider's program.
func (p *Providers) run(ctx context.Context, provider *kubeletv1.CredentialProvider, request *providerv1.CredentialProviderRequest) (*providerv1.CredentialProviderResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	in, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.cfg.BinDir, provider.Name), provider.Args...)
	cmd.Env = os.Environ()
	for _, e := range provider.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	out, said := answerText{full: cancel}, answerText{full: cancel}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(in), &out, &said, time.Second
	err = cmd.Run()
	if out.over || said.over {
		return nil, fmt.Errorf("it wrote more than %d bytes", maxPluginAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.buf.String()))
	}
	var response providerv1.CredentialProviderResponse
	if err := json.Unmarshal(out.buf.Bytes(), &response); err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	if response.Kind != "CredentialProviderResponse" || response.APIVersion != provider.APIVersion {
		return nil, fmt.Errorf("its answer is a %s of %s: want a CredentialProviderResponse of %s", response.Kind, response.APIVersion, provider.APIVersion)
	}
	return &response, nil
}

// answerText ends what fills it above the bound. Its buffer is hidden: io.Copy would
// else let that read to the end.
type answerText struct {
	buf  bytes.Buffer
	full func()
	over bool
}

// Write drops what is above the bound.
func (b *answerText) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxPluginAnswer {
		b.over = true
		b.full()
		return len(p), nil
	}
	return b.buf.Write(p)
}

func (p *Providers) remembered(keys ...string) (dockerConfig, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		if a, ok := p.kept[key]; ok && p.cfg.Now().Before(a.until) {
			return a.auth, true
		}
	}
	return nil, false
}

func (p *Providers) remember(key string, auth dockerConfig, keep time.Duration) {
	if keep <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if len(p.kept) >= maxKept {
		for k, a := range p.kept {
			if len(p.kept) >= maxKept || !now.Before(a.until) {
				delete(p.kept, k)
			}
		}
	}
	p.kept[key] = answer{auth, now.Add(keep)}
}

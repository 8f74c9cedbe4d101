package authz

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
)

// WebhookConfig is the service that the --authorization-webhook-* flags describe.
type WebhookConfig struct {
	// KubeconfigFile says where it is and how to reach it.
	KubeconfigFile string
	// Version of authorization.k8s.io that it speaks: v1 or v1beta1.
	Version string
	// AuthorizedTTL and UnauthorizedTTL are how long its answers hold; zero keeps none.
	AuthorizedTTL, UnauthorizedTTL time.Duration
}

func known() []string {
	return []string{string(typeAlwaysAllow), string(typeAlwaysDeny), string(typeNode), string(typeRBAC), string(apiserver.TypeWebhook)}
}

// read gives the configuration of the file or of the flags, and the file's text.
func (c *Config) read() (*apiserver.AuthorizationConfiguration, []byte, error) {
	if c.File == "" {
		out, err := c.fromFlags()
		return out, nil, err
	}
	if len(c.Modes) > 0 || c.Webhook != nil {
		return nil, nil, errors.New("--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined")
	}
	raw, err := os.ReadFile(c.File)
	if err != nil {
		return nil, nil, fmt.Errorf("--authorization-config: %w", err)
	}
	out, err := parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("--authorization-config %s: %w", c.File, err)
	}
	return out, raw, nil
}

// parse reads and checks an AuthorizationConfiguration.
func parse(raw []byte) (*apiserver.AuthorizationConfiguration, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New("the file is empty: want an AuthorizationConfiguration")
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	obj, err := runtime.Decode(codecs.UniversalDecoder(), raw)
	if err != nil {
		return nil, err
	}
	out, ok := obj.(*apiserver.AuthorizationConfiguration)
	if !ok {
		return nil, fmt.Errorf("it is a %T: want an AuthorizationConfiguration", obj)
	}
	var hooks []*apiserver.WebhookConfiguration
	for _, a := range out.Authorizers {
		if a.Webhook != nil {
			hooks = append(hooks, a.Webhook)
		}
	}
	errs := validation.ValidateAuthorizationConfiguration(compilerFor(hooks...), nil, out, sets.New(known()...), sets.New(string(apiserver.TypeWebhook)))
	return out, errs.ToAggregate()
}

// Configuration is what is in force, as a file would say it.
func (a *Authorizer) Configuration() (runtime.Object, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	out := &apiserverv1.AuthorizationConfiguration{}
	if err := scheme.Convert(a.current.Load().settings, out, nil); err != nil {
		return nil, fmt.Errorf("authorization: %w", err)
	}
	out.SetGroupVersionKind(apiserverv1.SchemeGroupVersion.WithKind("AuthorizationConfiguration"))
	return out, nil
}

// compilerFor makes a compiler where there are match conditions: its environment
// costs too much to be made for nothing.
func compilerFor(hooks ...*apiserver.WebhookConfiguration) authorizationcel.Compiler {
	for _, h := range hooks {
		if len(h.MatchConditions) > 0 {
			return authorizationcel.NewDefaultCompiler()
		}
	}
	return nil
}

// fromFlags is the configuration that the flags amount to.
func (c *Config) fromFlags() (*apiserver.AuthorizationConfiguration, error) {
	modes := c.Modes
	if len(modes) == 0 {
		modes = []string{string(typeNode), string(typeRBAC)}
	}
	out := &apiserver.AuthorizationConfiguration{}
	seen := sets.New[string]()
	for _, mode := range modes {
		if !sets.New(known()...).Has(mode) {
			return nil, fmt.Errorf("--authorization-mode: %q is not known: want some of %s", mode, strings.Join(known(), ", "))
		}
		if seen.Has(mode) {
			return nil, fmt.Errorf("--authorization-mode: %q is there twice: name each mode once", mode)
		}
		seen.Insert(mode)
		a := apiserver.AuthorizerConfiguration{Type: apiserver.AuthorizerType(mode), Name: strings.ToLower(mode)}
		if a.Type == apiserver.TypeWebhook {
			a.Name = "default"
			var err error
			if a.Webhook, err = c.Webhook.settings(); err != nil {
				return nil, err
			}
		}
		out.Authorizers = append(out.Authorizers, a)
	}
	if c.Webhook != nil && !seen.Has(string(apiserver.TypeWebhook)) {
		return nil, errors.New("--authorization-webhook-config-file: --authorization-mode has no Webhook that would use it: add it there")
	}
	return out, nil
}

// settings are those of the flags' webhook: a service that fails has no opinion.
func (w *WebhookConfig) settings() (*apiserver.WebhookConfiguration, error) {
	if w == nil || w.KubeconfigFile == "" {
		return nil, errors.New("--authorization-mode Webhook needs --authorization-webhook-config-file: a kubeconfig of the service that is asked")
	}
	if w.Version != "v1" && w.Version != "v1beta1" {
		return nil, fmt.Errorf("--authorization-webhook-version %q: want v1 or v1beta1", w.Version)
	}
	if w.AuthorizedTTL < 0 || w.UnauthorizedTTL < 0 {
		return nil, fmt.Errorf("--authorization-webhook-cache-authorized-ttl %s and -unauthorized-ttl %s: want no less than 0", w.AuthorizedTTL, w.UnauthorizedTTL)
	}
	file, err := filepath.Abs(w.KubeconfigFile)
	if err != nil {
		return nil, fmt.Errorf("--authorization-webhook-config-file: %w", err)
	}
	return &apiserver.WebhookConfiguration{
		AuthorizedTTL: metav1.Duration{Duration: w.AuthorizedTTL}, CacheAuthorizedRequests: true,
		UnauthorizedTTL: metav1.Duration{Duration: w.UnauthorizedTTL}, CacheUnauthorizedRequests: true,
		Timeout: metav1.Duration{Duration: 30 * time.Second}, FailurePolicy: apiserver.FailurePolicyNoOpinion,
		SubjectAccessReviewVersion: w.Version,
		ConnectionInfo:             apiserver.WebhookConnectionInfo{Type: apiserver.AuthorizationWebhookConnectionInfoTypeKubeConfigFile, KubeConfigFile: &file},
	}, nil
}

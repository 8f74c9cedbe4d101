package authn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
	"k8s.io/klog/v2"
)

const (
	// configCheckInterval is how often the structured configuration file is compared.
	configCheckInterval = 5 * time.Second
	// issuerWait is how long the issuers of a changed file may take to be reached.
	issuerWait = time.Minute
	// issuerCheckInterval is how often they are looked at meanwhile.
	issuerCheckInterval = 100 * time.Millisecond
)

// jwtIssuers are the OIDC providers of a structured AuthenticationConfiguration.
// They are made in run, since a provider needs a context to live in and a CEL
// environment, which costs too much for a start-up without OIDC.
type jwtIssuers struct {
	load       func() (*apiserver.AuthenticationConfiguration, []byte, error)
	disallowed []string
	signing    []string
	current    atomic.Pointer[[]issuer]
}

// issuer is one provider. It is of use once its keys have been fetched.
type issuer = oidc.AuthenticatorTokenWithHealthCheck

func (j *jwtIssuers) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	list := j.current.Load()
	if list == nil {
		return nil, false, errors.New("oidc: authenticator not initialized")
	}
	var errs []error
	for _, a := range *list {
		resp, ok, err := a.AuthenticateToken(ctx, token)
		if ok {
			return resp, true, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return nil, false, errors.Join(errs...)
}

// run builds the providers and builds them again when the file changes. A bad
// new file is logged and the former providers stay; they also stay until those of a
// good one can be used.
func (j *jwtIssuers) run(ctx context.Context) error {
	var (
		last   [sha256.Size]byte
		failed string
		cancel = context.CancelFunc(func() {})
	)
	defer func() { cancel() }()
	tick := time.NewTicker(configCheckInterval)
	defer tick.Stop()
	for {
		cfg, raw, err := j.load()
		sum := sha256.Sum256(raw)
		first := j.current.Load() == nil
		if err == nil && (first || sum != last) {
			lifeCtx, stop := context.WithCancel(ctx)
			var list []issuer
			if list, err = j.build(lifeCtx, cfg); err == nil && !first {
				err = j.usable(ctx, list, sum)
			}
			if err != nil {
				stop()
			} else {
				j.current.Store(&list)
				cancel()
				cancel, last = stop, sum
				if !first {
					klog.InfoS("The authentication configuration was read again")
				}
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errAnother):
			continue
		case err == nil:
			failed = ""
		case first:
			return fmt.Errorf("authentication configuration: %w", err)
		case err.Error() != failed:
			// Said once, not at every look.
			failed = err.Error()
			klog.ErrorS(err, "Authentication configuration cannot be reloaded, keeping the former one")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// errAnother says that a configuration was changed before it could be used.
var errAnother = errors.New("the configuration changed again")

// usable waits until all issuers of the configuration with this sum can be used.
func (j *jwtIssuers) usable(ctx context.Context, list []issuer, sum [sha256.Size]byte) error {
	ctx, cancel := context.WithTimeout(ctx, issuerWait)
	defer cancel()
	tick := time.NewTicker(issuerCheckInterval)
	defer tick.Stop()
	for {
		var errs []error
		for _, i := range list {
			errs = append(errs, i.HealthCheck())
		}
		err := errors.Join(errs...)
		if err == nil {
			return nil
		}
		if _, raw, loadErr := j.load(); loadErr == nil && sha256.Sum256(raw) != sum {
			return errAnother
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (j *jwtIssuers) build(ctx context.Context, cfg *apiserver.AuthenticationConfiguration) ([]issuer, error) {
	compiler := authenticationcel.NewDefaultCompiler()
	if errs := validation.ValidateAuthenticationConfiguration(compiler, cfg, j.disallowed); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	var list []issuer
	for i := range cfg.JWT {
		opts := oidc.Options{
			JWTAuthenticator: cfg.JWT[i], Compiler: compiler,
			SupportedSigningAlgs: j.signing, DisallowedIssuers: j.disallowed,
		}
		if opts.SupportedSigningAlgs == nil {
			opts.SupportedSigningAlgs = oidc.AllValidSigningAlgorithms()
		}
		if ca := cfg.JWT[i].Issuer.CertificateAuthority; ca != "" {
			opts.CAContentProvider = staticCA(ca)
		}
		a, err := oidc.New(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("jwt[%d]: %w", i, err)
		}
		list = append(list, a)
	}
	return list, nil
}

type staticCA string

func (s staticCA) CurrentCABundleContent() []byte { return []byte(s) }

// LoadConfiguration reads a structured AuthenticationConfiguration, strictly.
func LoadConfiguration(path string) (*apiserver.AuthenticationConfiguration, []byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("authentication configuration: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil, fmt.Errorf("authentication configuration %s: the file is empty", path)
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	obj, _, err := codecs.UniversalDecoder(apiserver.SchemeGroupVersion).Decode(raw, nil, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("authentication configuration %s: %w", path, err)
	}
	cfg, ok := obj.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, nil, fmt.Errorf("authentication configuration %s: has %T, must be AuthenticationConfiguration", path, obj)
	}
	return cfg, raw, nil
}

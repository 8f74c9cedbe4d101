package serviceaccount

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/request"
)

// Bounds of TokenRequest.spec.expirationSeconds.
const (
	defaultExpirationSeconds = 3600
	minExpirationSeconds     = 600
	maxExpirationSeconds     = 1 << 32
)

// IssuerConfig is what answers serviceaccounts/token.
type IssuerConfig struct {
	Signer *Signer
	// Audiences used when the request names none.
	Audiences []string
	Getter    Getter
	// MaxExpiration caps the life of tokens; zero is no cap.
	MaxExpiration time.Duration
	// ExtendExpiration lets tokens of one hour for the API server live a year (see WarnOnlyBoundTokenExpiration).
	ExtendExpiration bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Issuer answers TokenRequests.
type Issuer struct{ cfg IssuerConfig }

// NewIssuer checks the configuration.
func NewIssuer(c IssuerConfig) (*Issuer, error) {
	if c.Signer == nil || c.Getter == nil {
		return nil, errors.New("token issuer: Signer and Getter must be set")
	}
	if c.MaxExpiration != 0 && c.MaxExpiration < time.Hour || c.MaxExpiration > (1<<32)*time.Second {
		return nil, fmt.Errorf("service account max token expiration %s: must be between 1h and 2^32 seconds", c.MaxExpiration)
	}
	if len(c.Audiences) == 0 {
		c.Audiences = []string{c.Signer.Issuer()}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Issuer{cfg: c}, nil
}

// Default fills what a client may leave out, but for the audiences, which are the
// server's.
func Default(tr *authenticationv1.TokenRequest) {
	if tr.Spec.ExpirationSeconds == nil {
		s := int64(defaultExpirationSeconds)
		tr.Spec.ExpirationSeconds = &s
	}
}

func (i *Issuer) complete(tr *authenticationv1.TokenRequest) {
	Default(tr)
	if len(tr.Spec.Audiences) == 0 {
		tr.Spec.Audiences = append([]string(nil), i.cfg.Audiences...)
	}
}

// ValidateRequest holds the rules of TokenRequest.
func ValidateRequest(tr *authenticationv1.TokenRequest) field.ErrorList {
	var errs field.ErrorList
	p := field.NewPath("spec")
	if s := tr.Spec.ExpirationSeconds; s != nil {
		switch {
		case *s < minExpirationSeconds:
			errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes"))
		case *s > maxExpirationSeconds:
			errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *s, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	if len(tr.Spec.Attestations) > 0 {
		return field.ErrorList{field.Invalid(p.Child("attestations"), tr.Spec.Attestations, "attestations may only be specified with a webhook bound object reference")}
	}
	return errs
}

var tokenRequest = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind()

// TokenRequest makes a token for the service account and returns the answered
// request. The name, namespace and UID of its metadata, when set, must be the
// account's.
func (i *Issuer) TokenRequest(ctx context.Context, namespace, name string, in *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	tr := in.DeepCopy()
	at := field.NewPath("metadata")
	if tr.Name != "" && tr.Name != name {
		return nil, apierrors.NewInvalid(tokenRequest, name, field.ErrorList{field.Invalid(at.Child("name"), tr.Name, "must match the service account name if specified")})
	}
	if tr.Namespace != "" && tr.Namespace != namespace {
		return nil, apierrors.NewInvalid(tokenRequest, name, field.ErrorList{field.Invalid(at.Child("namespace"), tr.Namespace, "must match the service account namespace if specified")})
	}
	sa, err := i.cfg.Getter.ServiceAccount(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if tr.UID != "" && tr.UID != sa.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Group: tokenRequest.Group, Resource: tokenRequest.Kind}, name,
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", tr.UID, sa.UID))
	}
	tr.Name, tr.Namespace, tr.UID = name, namespace, sa.UID
	i.complete(tr)
	if errs := ValidateRequest(tr); len(errs) > 0 {
		return nil, apierrors.NewInvalid(tokenRequest, "", errs)
	}
	binding, err := i.bind(ctx, sa, tr.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	if m := int64(i.cfg.MaxExpiration.Seconds()); m > 0 && *tr.Spec.ExpirationSeconds > m {
		request.Warn(ctx, fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", *tr.Spec.ExpirationSeconds, m))
		*tr.Spec.ExpirationSeconds = m
	}
	// A pod's token of the kubelet's usual 3607 seconds is silently extended for
	// clients that never reload it; the client is told of the short life.
	exp, warnAfter := *tr.Spec.ExpirationSeconds, int64(0)
	if i.cfg.ExtendExpiration && binding.Pod != nil && exp == 60*60+7 && i.forAPIServer(tr.Spec.Audiences) {
		warnAfter, exp = exp, WarnOnlyBoundTokenExpiration
		if m := int64(i.cfg.MaxExpiration.Seconds()); m > 0 && exp > m {
			exp = m
		}
	}
	now := i.cfg.Now()
	claims := NewClaims(now, sa, binding, exp, warnAfter, tr.Spec.Audiences)
	token, err := i.cfg.Signer.Sign(claims)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	request.Annotate(ctx, "authentication.kubernetes.io/issued-credential-id", credentialID(claims.ID))
	told := exp
	if warnAfter > 0 {
		told = warnAfter
	}
	tr.Status = authenticationv1.TokenRequestStatus{
		Token:               token,
		ExpirationTimestamp: metav1.Time{Time: now.Add(time.Duration(told) * time.Second)},
	}
	tr.CreationTimestamp = metav1.NewTime(now)
	return tr, nil
}

func (i *Issuer) forAPIServer(audiences []string) bool {
	own := map[string]bool{}
	for _, a := range i.cfg.Audiences {
		own[a] = true
	}
	for _, a := range audiences {
		if !own[a] {
			return false
		}
	}
	return true
}

// bind finds the object the token shall live with and checks that it may be used.
func (i *Issuer) bind(ctx context.Context, sa *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference) (Binding, error) {
	var b Binding
	if ref == nil {
		return b, nil
	}
	var uid types.UID
	var err error
	// A version that is none is that of the core kinds.
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	switch {
	case gvk.Group == "" && ref.Name == "" && (gvk.Kind == "Pod" || gvk.Kind == "Secret" || gvk.Kind == "Node"):
		return b, apierrors.NewBadRequest("Name parameter required.")
	case gvk.Group == "" && gvk.Kind == "Pod":
		if b.Pod, err = i.cfg.Getter.Pod(ctx, sa.Namespace, ref.Name); err != nil {
			return b, err
		}
		if b.Pod.Spec.ServiceAccountName != sa.Name {
			return b, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
		}
		uid = b.Pod.UID
		if nodeName := b.Pod.Spec.NodeName; nodeName != "" {
			b.PodNodeName = nodeName
			switch node, err := i.cfg.Getter.Node(ctx, nodeName); {
			case err == nil:
				b.Node = node
			case !apierrors.IsNotFound(err):
				return b, apierrors.NewInternalError(err)
			}
		}
	case gvk.Group == "" && gvk.Kind == "Secret":
		if b.Secret, err = i.cfg.Getter.Secret(ctx, sa.Namespace, ref.Name); err != nil {
			return b, err
		}
		uid = b.Secret.UID
	case gvk.Group == "" && gvk.Kind == "Node":
		if b.Node, err = i.cfg.Getter.Node(ctx, ref.Name); err != nil {
			return b, err
		}
		uid = b.Node.UID
	default:
		return b, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk.String()))
	}
	if ref.UID != "" && uid != ref.UID {
		return b, apierrors.NewConflict(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, ref.Name,
			fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	return b, nil
}

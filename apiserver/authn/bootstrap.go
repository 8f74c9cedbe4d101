package authn

import (
	"context"
	"crypto/subtle"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"
)

// The published names of bootstrap tokens.
const (
	bootstrapSecretPrefix = "bootstrap-token-"
	bootstrapUserPrefix   = "system:bootstrap:"
	bootstrapDefaultGroup = "system:bootstrappers"
)

var (
	bootstrapTokenForm = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	bootstrapGroupForm = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// bootstrapTokens accepts the tokens kept as Secrets in kube-system.
type bootstrapTokens struct {
	secrets corev1listers.SecretNamespaceLister
	now     func() time.Time
}

func (b *bootstrapTokens) AuthenticateToken(_ context.Context, token string) (*authenticator.Response, bool, error) {
	parts := bootstrapTokenForm.FindStringSubmatch(token)
	if parts == nil {
		return nil, false, nil
	}
	id, secretPart := parts[1], parts[2]
	secret, err := b.secrets.Get(bootstrapSecretPrefix + id)
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	groups, why := bootstrapGroups(secret, id, secretPart, b.now())
	if why != "" {
		klog.V(3).InfoS("Bootstrap token refused", "secret", klog.KObj(secret), "reason", why)
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: bootstrapUserPrefix + id, Groups: groups}}, true, nil
}

// bootstrapGroups decides on a token; the reason of a refusal is for the log.
func bootstrapGroups(s *corev1.Secret, id, secretPart string, now time.Time) (groups []string, why string) {
	switch {
	case s.DeletionTimestamp != nil:
		return nil, "the secret is being deleted"
	case s.Type != corev1.SecretTypeBootstrapToken:
		return nil, "the secret has another type"
	case subtle.ConstantTimeCompare(s.Data["token-secret"], []byte(secretPart)) != 1:
		return nil, "token-secret differs"
	case string(s.Data["token-id"]) != id:
		return nil, "token-id differs from the secret's name"
	case string(s.Data["usage-bootstrap-authentication"]) != "true":
		return nil, "not meant for authentication"
	}
	if expiry := string(s.Data["expiration"]); expiry != "" {
		at, err := time.Parse(time.RFC3339, expiry)
		if err != nil {
			return nil, "expiration is not a time"
		}
		if !at.After(now) {
			return nil, "expired"
		}
	}
	groups = []string{bootstrapDefaultGroup}
	for _, g := range strings.Split(string(s.Data["auth-extra-groups"]), ",") {
		if g == "" {
			continue
		}
		if !bootstrapGroupForm.MatchString(g) {
			return nil, "auth-extra-groups has a group outside system:bootstrappers:"
		}
		groups = append(groups, g)
	}
	return groups, ""
}

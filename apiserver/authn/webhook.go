package authn

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/apiserver/authn/webhookclient"
)

// WebhookConfig is a remote TokenReview service.
type WebhookConfig struct {
	// KubeconfigFile says where it is and how to reach it.
	KubeconfigFile string
	// Version of authentication.k8s.io to speak: v1 or v1beta1 (the default, as --authentication-token-webhook-version has it).
	Version string
	// CacheTTL keeps answers; zero is 2 minutes.
	CacheTTL time.Duration
}

type tokenWebhook struct {
	client           *webhookclient.Client
	version          string
	implicitAudience authenticator.Audiences
}

func newTokenWebhook(c WebhookConfig, audiences []string) (*tokenWebhook, error) {
	if c.Version == "" {
		c.Version = "v1beta1"
	}
	if c.Version != "v1" && c.Version != "v1beta1" {
		return nil, fmt.Errorf("token webhook version %q: must be v1 or v1beta1", c.Version)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.KubeconfigFile)
	if err != nil {
		return nil, fmt.Errorf("token webhook kubeconfig %s: %w", c.KubeconfigFile, err)
	}
	cl, err := webhookclient.New(cfg, 30*time.Second)
	if err != nil {
		return nil, fmt.Errorf("token webhook kubeconfig %s: %w", c.KubeconfigFile, err)
	}
	return &tokenWebhook{client: cl, version: c.Version, implicitAudience: audiences}, nil
}

func (w *tokenWebhook) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	wanted, checkAudiences := authenticator.AudiencesFrom(ctx)
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: wanted}}
	review.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/" + w.version, Kind: "TokenReview"}
	// The two versions have the same JSON form.
	var answer authenticationv1.TokenReview
	if err := w.client.Post(ctx, review, &answer); err != nil {
		return nil, false, err
	}
	if answer.APIVersion != "" && answer.APIVersion != review.APIVersion {
		return nil, false, fmt.Errorf("token webhook answered %s, expected %s", answer.APIVersion, review.APIVersion)
	}
	if !answer.Status.Authenticated {
		if answer.Status.Error != "" {
			return nil, false, errors.New(answer.Status.Error)
		}
		return nil, false, nil
	}
	var audiences authenticator.Audiences
	if checkAudiences {
		audiences = w.implicitAudience
		if len(answer.Status.Audiences) > 0 {
			audiences = answer.Status.Audiences
		}
		if audiences = wanted.Intersect(audiences); len(audiences) == 0 {
			return nil, false, nil
		}
	}
	extra := make(map[string][]string, len(answer.Status.User.Extra))
	for k, v := range answer.Status.User.Extra {
		extra[k] = v
	}
	return &authenticator.Response{
		Audiences: audiences,
		User: &user.DefaultInfo{
			Name: answer.Status.User.Username, UID: answer.Status.User.UID,
			Groups: answer.Status.User.Groups, Extra: extra,
		},
	}, true, nil
}

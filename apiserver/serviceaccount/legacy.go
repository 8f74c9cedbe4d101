package serviceaccount

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiserversa "k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// Labels of the Secrets that keep tokens.
const (
	LastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	InvalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"

	dateForm = "2006-01-02"
)

func (v *Validator) checkLegacy(ctx context.Context, token string, c *legacyClaims) (*apiserversa.ServiceAccountInfo, error) {
	if c.Subject != apiserversa.MakeUsername(c.Namespace, c.AccountName) {
		return nil, errors.New("sub claim is invalid")
	}
	for _, f := range []struct{ name, value string }{
		{"namespace", c.Namespace}, {"secretName", c.SecretName}, {"serviceAccountName", c.AccountName}, {"serviceAccountUID", c.AccountUID},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("%s claim is missing", f.name)
		}
	}
	info := &apiserversa.ServiceAccountInfo{Namespace: c.Namespace, Name: c.AccountName, UID: c.AccountUID}
	if !v.cfg.Lookup {
		return info, nil
	}
	secret, err := v.cfg.Getter.Secret(ctx, c.Namespace, c.SecretName)
	if err != nil {
		klog.V(4).InfoS("Secret of a token not found", "namespace", c.Namespace, "secret", c.SecretName, "err", err)
		return nil, errors.New("token has been invalidated")
	}
	if secret.DeletionTimestamp != nil {
		return nil, errors.New("token has been invalidated")
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		return nil, errors.New("token does not match server's copy")
	}
	if err := v.checkAccount(ctx, v.cfg.Now(), c.Namespace, Ref{c.AccountName, c.AccountUID}); err != nil {
		return nil, err
	}
	if _, bad := secret.Labels[InvalidSinceLabel]; bad {
		return nil, fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			c.Namespace, c.SecretName, c.Namespace, c.AccountName, InvalidSinceLabel)
	}
	sa, err := v.cfg.Getter.ServiceAccount(ctx, c.Namespace, c.AccountName)
	if err == nil {
		for _, ref := range sa.Secrets {
			if ref.Name == secret.Name {
				warning.AddWarning(ctx, "", "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.")
				break
			}
		}
	}
	if v.cfg.TrackLegacyUse != nil {
		v.cfg.TrackLegacyUse(ctx, secret)
	}
	return info, nil
}

// UseTracker writes the day of a Secret token's last use to its label, once a day.
func UseTracker(client kubernetes.Interface, now func() time.Time) func(context.Context, *corev1.Secret) {
	return func(ctx context.Context, s *corev1.Secret) {
		today := now().UTC().Format(dateForm)
		if s.Labels[LastUsedLabel] == today {
			return
		}
		if last, err := time.Parse(dateForm, s.Labels[LastUsedLabel]); err == nil && last.After(now().UTC()) {
			return
		}
		patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"labels":{%q:%q}}}`, s.UID, LastUsedLabel, today)
		if _, err := client.CoreV1().Secrets(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			klog.ErrorS(err, "Last use of a service account token cannot be written", "secret", klog.KObj(s))
		}
	}
}

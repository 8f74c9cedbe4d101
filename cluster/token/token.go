// Package token makes and manages bootstrap tokens, the short secrets with
// which a node joins (KEP: bootstrap tokens; kubeadm's format).
package token

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
)

// DefaultTTL is how long a token lives when nothing else is said.
const DefaultTTL = 24 * time.Hour

// DefaultGroup is the group a joining node has; the rights to get a
// certificate are bound to it.
const DefaultGroup = "system:bootstrappers:kubeadm:default-node-token"

// Token is a bootstrap token.
type Token struct {
	ID, Secret  string
	Description string
	// Expires is the zero time for a token without end.
	Expires time.Time
	// Usages are "signing" and "authentication".
	Usages []string
	Groups []string
}

// String is the form that is handed out: id.secret.
func (t Token) String() string { return t.ID + "." + t.Secret }

// New makes a random token with kubeadm's defaults. ttl 0 means it never ends.
func New(now time.Time, ttl time.Duration) (Token, error) {
	text, err := bootstraputil.GenerateBootstrapToken()
	if err != nil {
		return Token{}, fmt.Errorf("generate a token: %w", err)
	}
	t, err := Parse(text)
	if err != nil {
		return Token{}, err
	}
	if ttl > 0 {
		t.Expires = now.Add(ttl).UTC().Truncate(time.Second)
	}
	return t, nil
}

// Parse reads id.secret and gives it kubeadm's default usages and groups.
func Parse(text string) (Token, error) {
	if !bootstraputil.IsValidBootstrapToken(text) {
		return Token{}, fmt.Errorf("token %q is not of the form %s, such as abcdef.0123456789abcdef", redact(text), bootstrapapi.BootstrapTokenPattern)
	}
	id, secret, _ := strings.Cut(text, ".")
	return Token{
		ID: id, Secret: secret,
		Usages: slices.Clone(bootstrapapi.KnownTokenUsages),
		Groups: []string{DefaultGroup},
	}, nil
}

// redact keeps the public half of what was meant to be a token.
func redact(text string) string {
	if id, _, ok := strings.Cut(text, "."); ok {
		return id + ".…"
	}
	return text
}

// ToSecret is the Secret that holds the token in kube-system.
func (t Token) ToSecret() *corev1.Secret {
	data := map[string]string{
		bootstrapapi.BootstrapTokenIDKey:     t.ID,
		bootstrapapi.BootstrapTokenSecretKey: t.Secret,
	}
	if t.Description != "" {
		data[bootstrapapi.BootstrapTokenDescriptionKey] = t.Description
	}
	if !t.Expires.IsZero() {
		data[bootstrapapi.BootstrapTokenExpirationKey] = t.Expires.UTC().Format(time.RFC3339)
	}
	for _, usage := range t.Usages {
		data[bootstrapapi.BootstrapTokenUsagePrefix+usage] = "true"
	}
	if len(t.Groups) > 0 {
		data[bootstrapapi.BootstrapTokenExtraGroupsKey] = strings.Join(t.Groups, ",")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: bootstraputil.BootstrapTokenSecretName(t.ID), Namespace: metav1.NamespaceSystem},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		StringData: data,
	}
}

// FromSecret reads a token's Secret.
func FromSecret(s *corev1.Secret) (Token, error) {
	get := func(key string) string { return string(s.Data[key]) }
	t := Token{
		ID:          get(bootstrapapi.BootstrapTokenIDKey),
		Secret:      get(bootstrapapi.BootstrapTokenSecretKey),
		Description: get(bootstrapapi.BootstrapTokenDescriptionKey),
	}
	if want := bootstraputil.BootstrapTokenSecretName(t.ID); s.Name != want {
		return Token{}, fmt.Errorf("secret %s: token-id says its name should be %s", s.Name, want)
	}
	if text := get(bootstrapapi.BootstrapTokenExpirationKey); text != "" {
		expires, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return Token{}, fmt.Errorf("secret %s: expiration: %w", s.Name, err)
		}
		t.Expires = expires
	}
	for _, usage := range bootstrapapi.KnownTokenUsages {
		if get(bootstrapapi.BootstrapTokenUsagePrefix+usage) == "true" {
			t.Usages = append(t.Usages, usage)
		}
	}
	if groups := get(bootstrapapi.BootstrapTokenExtraGroupsKey); groups != "" {
		t.Groups = strings.Split(groups, ",")
	}
	return t, nil
}

// Create stores a new token. It fails when the id is taken.
func Create(ctx context.Context, client kubernetes.Interface, t Token) error {
	_, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, t.ToSecret(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("a token with the id %q already exists", t.ID)
	}
	return err
}

// List reads every token, by id. Secrets that are not readable as tokens are
// returned as errors beside the good ones.
func List(ctx context.Context, client kubernetes.Interface) ([]Token, []error) {
	secrets, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
		FieldSelector: "type=" + string(bootstrapapi.SecretTypeBootstrapToken)})
	if err != nil {
		return nil, []error{err}
	}
	tokens := map[string]Token{}
	var errs []error
	for i := range secrets.Items {
		t, err := FromSecret(&secrets.Items[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tokens[t.ID] = t
	}
	out := make([]Token, 0, len(tokens))
	for _, id := range slices.Sorted(maps.Keys(tokens)) {
		out = append(out, tokens[id])
	}
	return out, errs
}

// Delete removes a token by its id or its whole text.
func Delete(ctx context.Context, client kubernetes.Interface, idOrToken string) error {
	id, _, _ := strings.Cut(idOrToken, ".")
	if !bootstraputil.IsValidBootstrapTokenID(id) {
		return fmt.Errorf("token %q: want an id such as abcdef, or the whole token", redact(idOrToken))
	}
	err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, bootstraputil.BootstrapTokenSecretName(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no token with the id %q", id)
	}
	return err
}

package core

import (
	"context"
	"crypto/tls"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func secrets() resources.Resource {
	r := namespaced("Secret", "secrets")
	r.Versions = v1(func() runtime.Object { return &corev1.SecretList{} }, secretDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Type", "What the data is for."),
		table.Text("Data", "Number of items in the secret."), table.Age())
	return resources.Declare(resources.Spec[corev1.Secret, *corev1.Secret]{
		Resource: r,
		Strategy: resources.TypedStrategy[corev1.Secret, *corev1.Secret]{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validateSecret, ValidateUpdate: validateSecretUpdate,
			Warnings: secretWarnings,
		},
		SelectableFields: map[string]func(*corev1.Secret) string{
			"type": func(s *corev1.Secret) string { return string(s.Type) },
		},
		Row: func(s *corev1.Secret) []any {
			return []any{s.Name, string(s.Type), int64(len(s.Data)), table.Since(s.CreationTimestamp)}
		},
	})
}

// secretWarnings are about certificates that no server could use.
func secretWarnings(_ context.Context, s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// secretDefaults also moves the write-only stringData into data.
func secretDefaults(s *corev1.Secret) {
	if len(s.StringData) > 0 {
		if s.Data == nil {
			s.Data = make(map[string][]byte, len(s.StringData))
		}
		for k, v := range s.StringData {
			s.Data[k] = []byte(v)
		}
	}
	s.StringData = nil
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
}

package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func serviceAccounts() resources.Resource {
	r := namespaced("ServiceAccount", "serviceaccounts", "sa")
	r.Versions = v1[corev1.ServiceAccount](func() runtime.Object { return &corev1.ServiceAccountList{} }, nil)
	r.Columns = table.Columns(table.Name(), table.Age())
	r.Subresources = map[string]resources.Subresource{
		"token": {Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest",
			Verbs: resources.CreateOnly, Connect: resources.ConnectToken},
	}
	return resources.Declare(resources.Spec[corev1.ServiceAccount, *corev1.ServiceAccount]{
		Resource: r,
		Strategy: resources.TypedStrategy[corev1.ServiceAccount, *corev1.ServiceAccount]{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			NameValidation:           validation.ValidateServiceAccountName,
			Warnings:                 serviceAccountWarnings,
			PrepareForCreate:         func(_ context.Context, sa *corev1.ServiceAccount) { dropSecretRefs(sa.Secrets) },
			PrepareForUpdate:         func(_ context.Context, sa, _ *corev1.ServiceAccount) { dropSecretRefs(sa.Secrets) },
		},
		Row: func(sa *corev1.ServiceAccount) []any {
			return []any{sa.Name, table.Since(sa.CreationTimestamp)}
		},
	})
}

// dropSecretRefs keeps of each reference to a secret only its name.
func dropSecretRefs(refs []corev1.ObjectReference) {
	for i := range refs {
		refs[i] = corev1.ObjectReference{Name: refs[i].Name}
	}
}

const enforceMountable = "kubernetes.io/enforce-mountable-secrets"

// serviceAccountWarnings tell who first sets it of an annotation that is going.
func serviceAccountWarnings(_ context.Context, sa, old *corev1.ServiceAccount) []string {
	_, has := sa.Annotations[enforceMountable]
	if old != nil && has {
		_, had := old.Annotations[enforceMountable]
		has = !had
	}
	if !has {
		return nil
	}
	return []string{"metadata.annotations[" + enforceMountable + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
}

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
)

func bindings() resources.Resource {
	r := namespaced("Binding", "bindings")
	r.Path = ""
	r.Verbs = resources.CreateOnly
	r.Virtual = resources.ConnectPodTemplateBindingOnCores
	r.Versions = []resources.Version{resources.HubVersion[corev1.Binding](
		"v1", func() runtime.Object { return &corev1.Binding{} }, nil)}
	return resources.Declare(resources.Spec[corev1.Binding, *corev1.Binding]{Resource: r})
}

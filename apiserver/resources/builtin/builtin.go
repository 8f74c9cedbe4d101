// Package builtin lists every built-in resource.
package builtin

import (
	"skiff/apiserver/resources"
	"skiff/apiserver/resources/admissionregistration"
	"skiff/apiserver/resources/apiextensions"
	"skiff/apiserver/resources/apiregistration"
	"skiff/apiserver/resources/apiserverinternal"
	"skiff/apiserver/resources/apps"
	"skiff/apiserver/resources/authentication"
	"skiff/apiserver/resources/authorization"
	"skiff/apiserver/resources/autoscaling"
	"skiff/apiserver/resources/batch"
	"skiff/apiserver/resources/certificates"
	"skiff/apiserver/resources/coordination"
	"skiff/apiserver/resources/core"
	"skiff/apiserver/resources/discovery"
	"skiff/apiserver/resources/events"
	"skiff/apiserver/resources/flowcontrol"
	"skiff/apiserver/resources/networking"
	"skiff/apiserver/resources/node"
	"skiff/apiserver/resources/policy"
	"skiff/apiserver/resources/rbac"
	"skiff/apiserver/resources/resource"
	"skiff/apiserver/resources/scheduling"
	"skiff/apiserver/resources/storage"
	"skiff/apiserver/resources/storagemigration"
)

// Resources are all built-in resources.
func Resources() []resources.Resource {
	var out []resources.Resource
	for _, group := range []func() []resources.Resource{
		core.Resources, apps.Resources, batch.Resources, autoscaling.Resources, policy.Resources, rbac.Resources,
		networking.Resources, storage.Resources, coordination.Resources, discovery.Resources, events.Resources,
		node.Resources, scheduling.Resources, certificates.Resources, admissionregistration.Resources,
		apiextensions.Resources, apiregistration.Resources, flowcontrol.Resources, authentication.Resources,
		authorization.Resources, resource.Resources, apiserverinternal.Resources, storagemigration.Resources,
	} {
		out = append(out, group()...)
	}
	return out
}

// GroupOrder is the order of groups in discovery, as upstream's priorities give it.
func GroupOrder() []string {
	return []string{
		"", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
		"certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io",
		"admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
		"discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
		"internal.apiserver.k8s.io", "storagemigration.k8s.io",
	}
}

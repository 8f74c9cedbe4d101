// Package denyserviceexternalips refuses new external addresses on Services.
package denyserviceexternalips

import (
	"context"
	"errors"
	"slices"

	v1 "k8s.io/api/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "DenyServiceExternalIPs"

// Plugin checks Services.
type Plugin struct{}

// New makes the plugin.
func New() Plugin { return Plugin{} }

// Name is upstream's.
func (Plugin) Name() string { return Name }

// Handles creations and updates.
func (Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate lets only addresses pass that the Service had before.
func (Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	s, ok := a.Object.(*v1.Service)
	if !ok || !a.Is("", "services") {
		return nil
	}
	var before []string
	if old, ok := a.OldObject.(*v1.Service); ok && a.Operation == admission.Update {
		before = old.Spec.ExternalIPs
	}
	for _, ip := range s.Spec.ExternalIPs {
		if !slices.Contains(before, ip) {
			return admission.Forbidden(a, errors.New("Use of external IPs is denied by admission control")) //nolint:staticcheck // the text is Kubernetes'
		}
	}
	return nil
}

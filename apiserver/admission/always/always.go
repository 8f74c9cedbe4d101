// Package always holds the plugins that admit or refuse everything.
package always

import (
	"context"
	"errors"

	"skiff/apiserver/admission"
)

// Names of the plugins.
const (
	AdmitName = "AlwaysAdmit"
	DenyName  = "AlwaysDeny"
)

// Admit lets everything pass.
type Admit struct{}

// Name is upstream's.
func (Admit) Name() string { return AdmitName }

// Handles all operations.
func (Admit) Handles(admission.Operation) bool { return true }

// Validate is always content.
func (Admit) Validate(context.Context, *admission.Attributes) error { return nil }

// Deny refuses everything.
type Deny struct{}

// Name is upstream's.
func (Deny) Name() string { return DenyName }

// Handles all operations.
func (Deny) Handles(admission.Operation) bool { return true }

// Validate never is.
func (Deny) Validate(_ context.Context, a *admission.Attributes) error {
	return admission.Forbidden(a, errors.New("admission control is denying all modifications"))
}

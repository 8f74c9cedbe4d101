// Package apiextensions declares CustomResourceDefinition.
package apiextensions

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
)

type crd = v1.CustomResourceDefinition

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	r := resources.Kind(v1.GroupName, "CustomResourceDefinition", "customresourcedefinitions", false, "crd", "crds")
	r.Path = v1.GroupName + "/customresourcedefinitions"
	r.Categories = []string{"api-extensions"}
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[v1.CustomResourceDefinitionList], defaults)}
	r.Columns = columns()
	main, view := resources.SpecStatus(resources.TypedStrategy[crd, *crd]{Metadata: resources.MetadataRules{AnyFinalizer: true},
		Generation: true, Validate: validate, ValidateUpdate: validateUpdate, Warnings: warnings, CheckGracefulDelete: holdBack,
	},
		func(o *crd) *v1.CustomResourceDefinitionSpec { return &o.Spec }, func(o *crd) *v1.CustomResourceDefinitionStatus { return &o.Status })
	create := main.PrepareForCreate
	main.PrepareForCreate = func(ctx context.Context, o *crd) {
		create(ctx, o)
		addStored(o)
	}
	update := main.PrepareForUpdate
	main.PrepareForUpdate = func(ctx context.Context, o, old *crd) {
		update(ctx, o, old)
		addStored(o)
	}
	view.ValidateUpdate = validateStatus
	return []resources.Resource{resources.Declare(resources.Spec[crd, *crd]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: row,
	})}
}

func defaults(o *crd) {
	s := &o.Spec
	if s.Names.Singular == "" {
		s.Names.Singular = strings.ToLower(s.Names.Kind)
	}
	if s.Names.ListKind == "" && s.Names.Kind != "" {
		s.Names.ListKind = s.Names.Kind + "List"
	}
	if s.Conversion == nil {
		s.Conversion = &v1.CustomResourceConversion{Strategy: v1.NoneConverter}
	}
	if w := s.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil && w.ClientConfig.Service.Port == nil {
		w.ClientConfig.Service.Port = ptr.To[int32](443)
	}
	if len(o.Status.StoredVersions) == 0 {
		addStored(o)
	}
}

// addStored remembers that objects may be stored in the storage version from now on.
func addStored(o *crd) {
	for _, v := range o.Spec.Versions {
		if !v.Storage {
			continue
		}
		if !slices.Contains(o.Status.StoredVersions, v.Name) {
			o.Status.StoredVersions = append(o.Status.StoredVersions, v.Name)
		}
		return // of two, validation tells
	}
}

// holdBack keeps a definition that is deleted until its objects are gone.
func holdBack(_ context.Context, o *crd, _ *metav1.DeleteOptions) bool {
	if o.DeletionTimestamp.IsZero() {
		if !slices.Contains(o.Finalizers, v1.CustomResourceCleanupFinalizer) {
			o.Finalizers = append(o.Finalizers, v1.CustomResourceCleanupFinalizer)
		}
		apihelpers.SetCRDCondition(o, v1.CustomResourceDefinitionCondition{
			Type: v1.Terminating, Status: v1.ConditionTrue, Reason: "InstanceDeletionPending",
			Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
		})
	}
	return false
}

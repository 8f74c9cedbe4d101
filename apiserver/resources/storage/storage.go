// Package storage declares the kinds of storage.k8s.io.
package storage

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{storageClasses(), volumeAttachments(), csiNodes(), csiDrivers(), csiStorageCapacities(), volumeAttributesClasses()}
}

func storageClasses() resources.Resource {
	r := resources.Kind(storagev1.GroupName, "StorageClass", "storageclasses", false, "sc")
	r.Versions = []resources.Version{resources.HubVersion[storagev1.StorageClass]("v1", resources.Empty[storagev1.StorageClassList], defaultClass)}
	r.Columns = table.Columns(table.Name(), table.Text("Provisioner", "Who makes the volumes."), table.Text("ReclaimPolicy", "What becomes of a volume without claim."), table.Text("VolumeBindingMode", "When a claim is bound."), table.Text("AllowVolumeExpansion", "Whether volumes can grow."), table.Age())
	return resources.Declare(resources.Spec[storagev1.StorageClass, *storagev1.StorageClass]{
		Resource: r,
		Strategy: resources.TypedStrategy[storagev1.StorageClass, *storagev1.StorageClass]{Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true, Validate: validateClass, ValidateUpdate: updateClass},
		Row: func(o *storagev1.StorageClass) []any {
			name := o.Name
			if o.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
				name += " (default)"
			}
			reclaim, mode := corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingImmediate
			if o.ReclaimPolicy != nil {
				reclaim = *o.ReclaimPolicy
			}
			if o.VolumeBindingMode != nil {
				mode = *o.VolumeBindingMode
			}
			return []any{name, o.Provisioner, string(reclaim), string(mode), o.AllowVolumeExpansion != nil && *o.AllowVolumeExpansion, table.Since(o.CreationTimestamp)}
		},
	})
}

func defaultClass(o *storagev1.StorageClass) {
	if o.ReclaimPolicy == nil {
		p := corev1.PersistentVolumeReclaimDelete
		o.ReclaimPolicy = &p
	}
	if o.VolumeBindingMode == nil {
		m := storagev1.VolumeBindingImmediate
		o.VolumeBindingMode = &m
	}
}

func validateClass(_ context.Context, o *storagev1.StorageClass) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, provisioner(o.Provisioner, field.NewPath("provisioner"))...)
	if p := o.ReclaimPolicy; p != nil && *p != "" && *p != corev1.PersistentVolumeReclaimDelete && *p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.NotSupported(field.NewPath("reclaimPolicy"), *p, []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain}))
	}
	if m := o.VolumeBindingMode; m != nil && *m != storagev1.VolumeBindingImmediate && *m != storagev1.VolumeBindingWaitForFirstConsumer {
		errs = append(errs, field.NotSupported(field.NewPath("volumeBindingMode"), *m, []storagev1.VolumeBindingMode{storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer}))
	}
	errs = append(errs, parameters(o.Parameters, field.NewPath("parameters"))...)
	return append(errs, topologies(o.AllowedTopologies)...)
}

// Bounds of what a class tells its driver.
const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
)

func parameters(list map[string]string, at *field.Path) field.ErrorList {
	if len(list) > maxParameters {
		return field.ErrorList{field.TooLong(at, "", maxParameters)}
	}
	var errs field.ErrorList
	size := 0
	for k, v := range list {
		if k == "" {
			errs = append(errs, field.Invalid(at, k, "field can not be empty."))
		}
		size += len(k) + len(v)
	}
	if size > maxParametersSize {
		errs = append(errs, field.TooLong(at, "", maxParametersSize))
	}
	return errs
}

// provisioner is who makes volumes, under a name that is read without case.
func provisioner(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	name = strings.ToLower(name)
	for _, msg := range validation.IsQualifiedName(name) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

func updateClass(ctx context.Context, o, old *storagev1.StorageClass) field.ErrorList {
	errs := validateClass(ctx, o)
	if !equality.Semantic.DeepEqual(o.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	if o.Provisioner != old.Provisioner {
		errs = append(errs, field.Forbidden(field.NewPath("provisioner"), "updates to provisioner are forbidden."))
	}
	if !equality.Semantic.DeepEqual(o.ReclaimPolicy, old.ReclaimPolicy) {
		errs = append(errs, field.Forbidden(field.NewPath("reclaimPolicy"), "updates to reclaimPolicy are forbidden."))
	}
	return append(errs, apivalidation.ValidateImmutableField(o.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}

func volumeAttachments() resources.Resource {
	r := resources.Kind(storagev1.GroupName, "VolumeAttachment", "volumeattachments", false)
	r.Versions = []resources.Version{resources.HubVersion[storagev1.VolumeAttachment]("v1", resources.Empty[storagev1.VolumeAttachmentList], nil)}
	r.Columns = table.Columns(table.Name(), table.Reference("Attacher", "Who attaches the volume."), table.Text("PV", "The volume."), table.Text("Node", "The node."), table.Bool("Attached", "Whether it is attached."), table.Age())
	main, view := resources.SpecStatus(resources.TypedStrategy[storagev1.VolumeAttachment, *storagev1.VolumeAttachment]{Metadata: resources.MetadataRules{NamesOnUpdate: true}, Validate: validateAttachment, ValidateUpdate: updateAttachment},
		func(o *storagev1.VolumeAttachment) *storagev1.VolumeAttachmentSpec { return &o.Spec }, func(o *storagev1.VolumeAttachment) *storagev1.VolumeAttachmentStatus { return &o.Status })
	view.ValidateUpdate = validateAttachmentStatus
	return resources.Declare(resources.Spec[storagev1.VolumeAttachment, *storagev1.VolumeAttachment]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *storagev1.VolumeAttachment) []any {
			pv := ""
			if n := o.Spec.Source.PersistentVolumeName; n != nil {
				pv = *n
			}
			return []any{o.Name, o.Spec.Attacher, pv, o.Spec.NodeName, o.Status.Attached, table.Since(o.CreationTimestamp)}
		},
	})
}

func csiNodes() resources.Resource {
	r := resources.Kind(storagev1.GroupName, "CSINode", "csinodes", false)
	r.Versions = []resources.Version{resources.HubVersion[storagev1.CSINode]("v1", resources.Empty[storagev1.CSINodeList], nil)}
	r.Columns = table.Columns(table.Name(), table.Int("Drivers", "How many drivers the node has."), table.Age())
	main, view := resources.SpecStatus(resources.TypedStrategy[storagev1.CSINode, *storagev1.CSINode]{Metadata: resources.MetadataRules{NamesOnUpdate: true}, Validate: validateCSINode, ValidateUpdate: updateCSINode},
		func(o *storagev1.CSINode) *storagev1.CSINodeSpec { return &o.Spec }, func(o *storagev1.CSINode) *storagev1.CSINodeStatus { return &o.Status })
	// The health of storage is an alpha feature, and off: what is told of it is dropped.
	keepSpec := view.PrepareForUpdate
	view.PrepareForUpdate = func(ctx context.Context, o, old *storagev1.CSINode) {
		keepSpec(ctx, o, old)
		o.Status = old.Status
	}
	return resources.Declare(resources.Spec[storagev1.CSINode, *storagev1.CSINode]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *storagev1.CSINode) []any {
			return []any{o.Name, int64(len(o.Spec.Drivers)), table.Since(o.CreationTimestamp)}
		},
	})
}

func csiDrivers() resources.Resource {
	r := resources.Kind(storagev1.GroupName, "CSIDriver", "csidrivers", false)
	r.Versions = []resources.Version{resources.HubVersion[storagev1.CSIDriver]("v1", resources.Empty[storagev1.CSIDriverList], defaultDriver)}
	r.Columns = table.Columns(table.Name(), table.Bool("AttachRequired", "Whether volumes are attached first."), table.Bool("PodInfoOnMount", "Whether the driver is told of the pod."), table.Bool("StorageCapacity", "Whether capacity is tracked."), table.Text("TokenRequests", "The tokens that the driver wants."), table.Bool("RequiresRepublish", "Whether volumes are published again and again."), table.Text("Modes", "The modes of volumes."), table.Age())
	return resources.Declare(resources.Spec[storagev1.CSIDriver, *storagev1.CSIDriver]{
		Resource: r,
		Strategy: resources.TypedStrategy[storagev1.CSIDriver, *storagev1.CSIDriver]{Validate: validateDriver, ValidateUpdate: updateDriver},
		Row:      func(o *storagev1.CSIDriver) []any { return driverRow(o) },
	})
}

func defaultDriver(o *storagev1.CSIDriver) {
	s := &o.Spec
	set := func(p **bool, v bool) {
		if *p == nil {
			*p = &v
		}
	}
	set(&s.AttachRequired, true)
	set(&s.PodInfoOnMount, false)
	set(&s.StorageCapacity, false)
	set(&s.RequiresRepublish, false)
	set(&s.SELinuxMount, false)
	set(&s.PreventPodSchedulingIfMissing, false)
	if s.FSGroupPolicy == nil {
		p := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
		s.FSGroupPolicy = &p
	}
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

func driverRow(o *storagev1.CSIDriver) []any {
	is := func(p *bool) bool { return p != nil && *p }
	modes := make([]string, len(o.Spec.VolumeLifecycleModes))
	for i, m := range o.Spec.VolumeLifecycleModes {
		modes[i] = string(m)
	}
	tokens := "<unset>"
	if len(o.Spec.TokenRequests) > 0 {
		list := make([]string, len(o.Spec.TokenRequests))
		for i, t := range o.Spec.TokenRequests {
			list[i] = t.Audience
		}
		tokens = strings.Join(list, ",")
	}
	return []any{o.Name, o.Spec.AttachRequired == nil || *o.Spec.AttachRequired, is(o.Spec.PodInfoOnMount), is(o.Spec.StorageCapacity),
		tokens, is(o.Spec.RequiresRepublish), strings.Join(modes, ","), table.Since(o.CreationTimestamp)}
}

func csiStorageCapacities() resources.Resource {
	r := resources.Kind(storagev1.GroupName, "CSIStorageCapacity", "csistoragecapacities", true)
	r.Versions = []resources.Version{resources.HubVersion[storagev1.CSIStorageCapacity]("v1", resources.Empty[storagev1.CSIStorageCapacityList], nil)}
	r.ListKind = "CSIStorageCapacityList"
	return resources.Declare(resources.Spec[storagev1.CSIStorageCapacity, *storagev1.CSIStorageCapacity]{
		Resource: r,
		Strategy: resources.TypedStrategy[storagev1.CSIStorageCapacity, *storagev1.CSIStorageCapacity]{Metadata: resources.MetadataRules{NamesOnUpdate: true}, Validate: validateCapacity, ValidateUpdate: updateCapacity},
	})
}

func volumeAttributesClasses() resources.Resource {
	r := resources.Kind(storagev1.GroupName, "VolumeAttributesClass", "volumeattributesclasses", false, "vac")
	r.Versions = []resources.Version{resources.HubVersion[storagev1.VolumeAttributesClass]("v1", resources.Empty[storagev1.VolumeAttributesClassList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("DriverName", "The driver."), table.Age())
	return resources.Declare(resources.Spec[storagev1.VolumeAttributesClass, *storagev1.VolumeAttributesClass]{
		Resource: r,
		Strategy: resources.TypedStrategy[storagev1.VolumeAttributesClass, *storagev1.VolumeAttributesClass]{Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true, Validate: validateAttributes, ValidateUpdate: updateAttributes},
		Row: func(o *storagev1.VolumeAttributesClass) []any {
			return []any{o.Name, o.DriverName, table.Since(o.CreationTimestamp)}
		},
	})
}

package storage

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

var specPath = field.NewPath("spec")

func validateAttachment(_ context.Context, o *storagev1.VolumeAttachment) field.ErrorList {
	errs := podspec.CSIDriverName(o.Spec.Attacher, specPath.Child("attacher"))
	at := specPath.Child("source")
	switch src := o.Spec.Source; {
	case src.PersistentVolumeName == nil && src.InlineVolumeSpec == nil:
		errs = append(errs, field.Required(at, "must specify one of inlineVolumeSpec and persistentVolumeName"))
	case src.PersistentVolumeName != nil && src.InlineVolumeSpec != nil:
		errs = append(errs, field.Forbidden(at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
	case src.PersistentVolumeName != nil && *src.PersistentVolumeName == "":
		errs = append(errs, field.Required(at.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	case src.InlineVolumeSpec != nil:
		errs = append(errs, podspec.ValidateInlineVolumeSpec(src.InlineVolumeSpec, at.Child("inlineVolumeSpec"))...)
	}
	if o.Spec.NodeName == "" {
		errs = append(errs, field.Required(specPath.Child("nodeName"), ""))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(o.Spec.NodeName, false) {
			errs = append(errs, field.Invalid(specPath.Child("nodeName"), o.Spec.NodeName, msg))
		}
	}
	return errs
}

func updateAttachment(ctx context.Context, o, old *storagev1.VolumeAttachment) field.ErrorList {
	errs := validateAttachment(ctx, o)
	if !equality.Semantic.DeepEqual(o.Spec, old.Spec) {
		errs = append(errs, field.Invalid(specPath, o.Spec, "field is immutable"))
	}
	return errs
}

// The longest parts of what an attacher says.
const (
	longestMetadata = 256 << 10
	longestMessage  = 1024
)

func validateAttachmentStatus(_ context.Context, o, _ *storagev1.VolumeAttachment) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("status")
	size := 0
	for k, v := range o.Status.AttachmentMetadata {
		if k == "" {
			errs = append(errs, field.Required(at.Child("attachmentMetadata"), "key must not be empty"))
		}
		size += len(k) + len(v)
	}
	if size > longestMetadata {
		errs = append(errs, field.TooLong(at.Child("attachmentMetadata"), "", longestMetadata))
	}
	for name, e := range map[string]*storagev1.VolumeError{"attachError": o.Status.AttachError, "detachError": o.Status.DetachError} {
		if e == nil {
			continue
		}
		at := at.Child(name)
		if len(e.Message) > longestMessage {
			errs = append(errs, field.Invalid(at.Child("message"), e.Message, fmt.Sprintf("must be less than %d characters", longestMessage)))
		}
		if e.ErrorCode != nil && *e.ErrorCode < 0 {
			errs = append(errs, field.Invalid(at.Child("errorCode"), *e.ErrorCode, "must be greater than or equal to 0"))
		}
	}
	return errs
}

func validateCSINode(_ context.Context, o *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, d := range o.Spec.Drivers {
		at := specPath.Child("drivers").Index(i)
		errs = append(errs, podspec.CSIDriverName(d.Name, at.Child("name"))...)
		switch {
		case d.NodeID == "":
			errs = append(errs, field.Required(at.Child("nodeID"), d.NodeID))
		case len(d.NodeID) > 256:
			errs = append(errs, field.Invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", 256)))
		}
		if a := d.Allocatable; a != nil && a.Count != nil && *a.Count < 0 {
			errs = append(errs, field.Invalid(at.Child("allocatable", "count"), *a.Count, "must be greater than or equal to 0"))
		}
		if names[d.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		names[d.Name] = true
		keys := map[string]bool{}
		for _, k := range d.TopologyKeys {
			if keys[k] {
				errs = append(errs, field.Duplicate(at, k))
			}
			keys[k] = true
			for _, msg := range validation.IsQualifiedName(k) {
				errs = append(errs, field.Invalid(at, k, msg))
			}
		}
	}
	return errs
}

func updateCSINode(ctx context.Context, o, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(ctx, o)
	for _, was := range old.Spec.Drivers {
		for _, is := range o.Spec.Drivers {
			// What a node has room for changes with the node; all else is fixed.
			is.Allocatable = was.Allocatable
			if is.Name == was.Name && !equality.Semantic.DeepEqual(is, was) {
				errs = append(errs, field.Invalid(specPath.Child("drivers"), o.Spec.Drivers, fmt.Sprintf("driver %s: field is immutable", was.Name)))
			}
		}
	}
	return errs
}

func validateDriver(_ context.Context, o *storagev1.CSIDriver) field.ErrorList {
	// A driver's own name may be longer than those that refer to it.
	errs := podspec.CSIDriverName(o.Name, field.NewPath("metadata", "name"))
	errs = slices.DeleteFunc(errs, func(e *field.Error) bool { return e.Type == field.ErrorTypeTooLong })
	for name, p := range map[string]*bool{"attachedRequired": o.Spec.AttachRequired, "podInfoOnMount": o.Spec.PodInfoOnMount, "storageCapacity": o.Spec.StorageCapacity} {
		if p == nil {
			errs = append(errs, field.Required(specPath.Child(name), ""))
		}
	}
	if p := o.Spec.FSGroupPolicy; p != nil {
		switch *p {
		case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy:
		default:
			errs = append(errs, field.NotSupported(specPath.Child("fsGroupPolicy"), *p, []storagev1.FSGroupPolicy{storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy}))
		}
	}
	if n := o.Spec.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < 10 {
		errs = append(errs, field.Invalid(specPath.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	if in := o.Spec.ServiceAccountTokenInSecrets; in != nil && len(o.Spec.TokenRequests) == 0 {
		errs = append(errs, field.Forbidden(specPath.Child("serviceAccountTokenInSecrets"), "serviceAccountTokenInSecrets cannot be set when tokenRequests is not specified"))
	}
	audiences := map[string]bool{}
	for i, t := range o.Spec.TokenRequests {
		at := specPath.Child("tokenRequests").Index(i)
		if audiences[t.Audience] {
			errs = append(errs, field.Duplicate(at.Child("audience"), t.Audience))
		}
		audiences[t.Audience] = true
		if s := t.ExpirationSeconds; s != nil {
			if *s < 600 {
				errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration less than 10 minutes"))
			}
			if *s > 1<<32 {
				errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration larger than 2^32 seconds"))
			}
		}
	}
	for i, m := range o.Spec.VolumeLifecycleModes {
		if m != storagev1.VolumeLifecyclePersistent && m != storagev1.VolumeLifecycleEphemeral {
			errs = append(errs, field.NotSupported(specPath.Child("volumeLifecycleModes").Index(i), m, []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral, storagev1.VolumeLifecyclePersistent}))
		}
	}
	return errs
}

func updateDriver(ctx context.Context, o, old *storagev1.CSIDriver) field.ErrorList {
	errs := validateDriver(ctx, o)
	errs = append(errs, apivalidation.ValidateImmutableField(o.Spec.AttachRequired, old.Spec.AttachRequired, specPath.Child("attachedRequired"))...)
	return append(errs, apivalidation.ValidateImmutableField(o.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, specPath.Child("volumeLifecycleModes"))...)
}

func validateCapacity(_ context.Context, o *storagev1.CSIStorageCapacity) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("storageClassName")
	if o.StorageClassName == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(o.StorageClassName, false) {
			errs = append(errs, field.Invalid(at, o.StorageClassName, msg))
		}
	}
	errs = append(errs, unversioned.ValidateLabelSelector(o.NodeTopology, unversioned.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))...)
	if q := o.Capacity; q != nil && q.Sign() < 0 {
		errs = append(errs, field.Invalid(field.NewPath("capacity"), q.String(), "must be greater than or equal to 0"))
	}
	if q := o.MaximumVolumeSize; q != nil && q.Sign() < 0 {
		errs = append(errs, field.Invalid(field.NewPath("maximumVolumeSize"), q.String(), "must be greater than or equal to 0"))
	}
	return errs
}

func updateCapacity(ctx context.Context, o, old *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := validateCapacity(ctx, o)
	errs = append(errs, apivalidation.ValidateImmutableField(o.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology"))...)
	return append(errs, apivalidation.ValidateImmutableField(o.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
}

func validateAttributes(_ context.Context, o *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := provisioner(o.DriverName, field.NewPath("driverName"))
	errs = append(errs, parameters(o.Parameters, field.NewPath("parameters"))...)
	if len(o.Parameters) == 0 {
		errs = append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
	}
	return errs
}

func updateAttributes(ctx context.Context, o, old *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := validateAttributes(ctx, o)
	if o.DriverName != old.DriverName {
		errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
	}
	if !equality.Semantic.DeepEqual(o.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	return errs
}

// topologies are where the volumes of a class may be made.
func topologies(list []corev1.TopologySelectorTerm) field.ErrorList {
	var errs field.ErrorList
	// A term of nothing is as good as listed already.
	before := make([]map[string]sets.Set[string], 1, len(list)+1)
	for i, term := range list {
		keys := map[string]sets.Set[string]{}
		for j, e := range term.MatchLabelExpressions {
			at := field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j)
			errs = append(errs, unversioned.ValidateLabelName(e.Key, at.Child("key"))...)
			if _, ok := keys[e.Key]; ok {
				errs = append(errs, field.Duplicate(at.Child("key"), e.Key))
			}
			keys[e.Key] = sets.New(e.Values...)
			if len(e.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			seen := sets.New[string]()
			for k, value := range e.Values {
				if seen.Has(value) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), value))
				}
				seen.Insert(value)
			}
		}
		for _, other := range before {
			if equality.Semantic.DeepEqual(keys, other) {
				errs = append(errs, field.Duplicate(field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions"), ""))
			}
		}
		before = append(before, keys)
	}
	return errs
}

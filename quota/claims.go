package quota

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/utils/ptr"
)

const (
	classSuffix  = ".storageclass.storage.k8s.io/"
	deviceSuffix = ".deviceclass.resource.k8s.io/devices"
)

// Claims counts PersistentVolumeClaims and the storage they ask for, also by
// storage class.
type Claims struct{}

// Resource is persistentvolumeclaims.
func (Claims) Resource() schema.GroupResource {
	return schema.GroupResource{Resource: "persistentvolumeclaims"}
}

// Tracks says whether name is about claims.
func (Claims) Tracks(name v1.ResourceName) bool {
	switch name {
	case v1.ResourcePersistentVolumeClaims, v1.ResourceRequestsStorage, "count/persistentvolumeclaims":
		return true
	}
	_, what, ok := strings.Cut(string(name), classSuffix)
	return ok && (what == string(v1.ResourceRequestsStorage) || what == string(v1.ResourcePersistentVolumeClaims))
}

// Usage is the claim and its storage: what it has been given where that is more
// than what it asks for.
func (Claims) Usage(obj runtime.Object) (v1.ResourceList, error) {
	c, ok := obj.(*v1.PersistentVolumeClaim)
	if !ok {
		return nil, fmt.Errorf("quota: %T is no PersistentVolumeClaim", obj)
	}
	out := v1.ResourceList{"count/persistentvolumeclaims": one(), v1.ResourcePersistentVolumeClaims: one()}
	class := c.Annotations[v1.BetaStorageClassAnnotation]
	if class == "" && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	if class != "" {
		out[v1.ResourceName(class+classSuffix)+v1.ResourcePersistentVolumeClaims] = one()
	}
	size, asked := c.Spec.Resources.Requests[v1.ResourceStorage]
	if given, ok := c.Status.AllocatedResources[v1.ResourceStorage]; ok && given.Cmp(size) > 0 {
		size, asked = given, true
	}
	if asked {
		out[v1.ResourceRequestsStorage] = size
		if class != "" {
			out[v1.ResourceName(class+classSuffix)+v1.ResourceRequestsStorage] = size
		}
	}
	return out, nil
}

// Constrain accepts every claim: validation asks for its storage.
func (Claims) Constrain([]v1.ResourceName, runtime.Object) error { return nil }

// InScope matches the claim's volume attributes class.
func (Claims) InScope(s v1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
	if s.ScopeName != v1.ResourceQuotaScopeVolumeAttributesClass {
		return false, nil
	}
	c, ok := obj.(*v1.PersistentVolumeClaim)
	if !ok {
		return false, fmt.Errorf("quota: %T is no PersistentVolumeClaim", obj)
	}
	names := map[string]bool{}
	for _, n := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
		if n != nil && *n != "" {
			names[*n] = true
		}
	}
	if m := c.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		names[m.TargetVolumeAttributesClassName] = true
	}
	if len(names) == 0 {
		return matchValue(s, "", false)
	}
	for n := range names {
		ok, err := matchValue(s, n, true)
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// CountsUpdate is true: a claim can grow.
func (Claims) CountsUpdate(subresource string) bool { return subresource == "" }

// ResourceClaims counts device claims and the devices of each class that they
// may take. Pods ask for the same devices by resources, and so these are counted
// as well (KEP-5004).
type ResourceClaims struct {
	// Extended is the resource that stands for a class; "" where none does.
	Extended func(class string) string
}

// Resource is resourceclaims.
func (ResourceClaims) Resource() schema.GroupResource {
	return schema.GroupResource{Group: resourceapi.GroupName, Resource: "resourceclaims"}
}

// Tracks says whether name is about device claims.
func (r ResourceClaims) Tracks(name v1.ResourceName) bool {
	rest, requested := strings.CutPrefix(string(name), requestsPrefix)
	return name == CountName(r.Resource()) || strings.HasSuffix(string(name), deviceSuffix) || requested && extended(rest)
}

// Usage counts the most devices that the claim's requests can be given.
func (r ResourceClaims) Usage(obj runtime.Object) (v1.ResourceList, error) {
	c, ok := obj.(*resourceapi.ResourceClaim)
	if !ok {
		return nil, fmt.Errorf("quota: %T is no ResourceClaim", obj)
	}
	out := v1.ResourceList{CountName(r.Resource()): one()}
	for _, request := range c.Spec.Devices.Requests {
		most := map[string]int64{}
		if e := request.Exactly; e != nil {
			most[e.DeviceClassName] = devices(e.AllocationMode, e.Count)
		}
		for _, sub := range request.FirstAvailable {
			most[sub.DeviceClassName] = max(most[sub.DeviceClassName], devices(sub.AllocationMode, sub.Count))
		}
		for class, n := range most {
			for _, name := range r.names(class) {
				sum := out[name]
				sum.Add(*resource.NewQuantity(n, resource.DecimalSI))
				out[name] = sum
			}
		}
	}
	return out, nil
}

// ExtendedBy gives the resources that device classes stand for.
func ExtendedBy(classes resourcelisters.DeviceClassLister) func(class string) string {
	return func(class string) string {
		c, err := classes.Get(class)
		if err != nil {
			return "" // its quota, if any, is by its own name
		}
		return ptr.Deref(c.Spec.ExtendedResourceName, "")
	}
}

// names are what a quota may call the devices of a class.
func (r ResourceClaims) names(class string) []v1.ResourceName {
	out := []v1.ResourceName{v1.ResourceName(class + deviceSuffix), v1.ResourceName(requestsPrefix + resourceapi.ResourceDeviceClassPrefix + class)}
	if r.Extended != nil {
		if name := r.Extended(class); name != "" {
			out = append(out, v1.ResourceName(requestsPrefix+name))
		}
	}
	return out
}

func devices(mode resourceapi.DeviceAllocationMode, count int64) int64 {
	if mode == resourceapi.DeviceAllocationModeAll {
		return resourceapi.AllocationResultsMaxSize
	}
	return max(1, count)
}

// Constrain accepts every claim.
func (ResourceClaims) Constrain([]v1.ResourceName, runtime.Object) error { return nil }

// InScope is false: device claims have no scopes.
func (ResourceClaims) InScope(v1.ScopedResourceSelectorRequirement, runtime.Object) (bool, error) {
	return false, nil
}

// CountsUpdate is false: requests never change.
func (ResourceClaims) CountsUpdate(string) bool { return false }

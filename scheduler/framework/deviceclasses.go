package framework

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// byResource finds device classes by the extended resources that they stand for.
const byResource = "extendedResource"

// DeviceClasses tells which extended resources DRA can give (KEP-5004). The zero
// value knows none.
type DeviceClasses struct{ indexer cache.Indexer }

// NewDeviceClasses indexes the informer of device classes.
func NewDeviceClasses(f informers.SharedInformerFactory) (DeviceClasses, error) {
	informer := f.Resource().V1().DeviceClasses().Informer()
	indexer := informer.GetIndexer()
	if _, ok := indexer.GetIndexers()[byResource]; !ok {
		if err := informer.AddIndexers(cache.Indexers{byResource: resourcesOf}); err != nil {
			return DeviceClasses{}, fmt.Errorf("index device classes by extended resource: %w", err)
		}
	}
	return DeviceClasses{indexer}, nil
}

// resourcesOf are the names under which pods ask for devices of a class.
func resourcesOf(obj any) ([]string, error) {
	class, ok := obj.(*resourceapi.DeviceClass)
	if !ok {
		return nil, fmt.Errorf("a %T is no device class", obj)
	}
	out := []string{resourceapi.ResourceDeviceClassPrefix + class.Name}
	if name := ptr.Deref(class.Spec.ExtendedResourceName, ""); name != "" {
		out = append(out, name)
	}
	return out, nil
}

// For is the class that stands for a resource, nil for none. Of several it is the
// newest, so that one class can take over from another.
func (d DeviceClasses) For(name v1.ResourceName) *resourceapi.DeviceClass {
	if d.indexer == nil {
		return nil
	}
	list, err := d.indexer.ByIndex(byResource, string(name))
	if err != nil {
		return nil
	}
	var out *resourceapi.DeviceClass
	for _, obj := range list {
		class, ok := obj.(*resourceapi.DeviceClass)
		if !ok {
			continue
		}
		if out == nil || out.CreationTimestamp.Before(&class.CreationTimestamp) ||
			out.CreationTimestamp.Equal(&class.CreationTimestamp) && class.Name < out.Name {
			out = class
		}
	}
	return out
}

// StandsFor tells whether a pod asks for a resource that the class stands for.
func StandsFor(class *resourceapi.DeviceClass, pod *v1.Pod) bool {
	names, err := resourcesOf(class)
	if err != nil {
		return false
	}
	requests := PodRequests(pod)
	for _, name := range names {
		if q, ok := requests[v1.ResourceName(name)]; ok && !q.IsZero() {
			return true
		}
	}
	return false
}

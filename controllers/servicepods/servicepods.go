// Package servicepods is how the controllers of endpoints find the Services of a pod
// that changed, and the pods of a Service.
package servicepods

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	track "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"
)

// Changes calls add with the key of each Service that a change of a pod matters to.
func Changes(services corelisters.ServiceLister, add func(key string)) cache.ResourceEventHandler {
	changed := func(old, obj any) {
		pod := track.GetPodUpdateProjectionKey(old, obj)
		if pod == nil {
			return
		}
		keys, err := track.GetServicesToUpdate(services, pod)
		if err != nil {
			klog.Background().Error(err, "Could not find the services of a pod")
			return
		}
		for key := range keys {
			add(key)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { changed(nil, o) },
		UpdateFunc: changed,
		DeleteFunc: func(o any) { changed(nil, o) },
	}
}

// Of lists the pods that the Service selects. selects is false where its endpoints are
// not the controllers' to keep.
func Of(service *v1.Service, pods corelisters.PodLister) (selected []*v1.Pod, selects bool, err error) {
	if service.Spec.Type == v1.ServiceTypeExternalName || service.Spec.Selector == nil {
		return nil, false, nil
	}
	selected, err = pods.Pods(service.Namespace).List(labels.Set(service.Spec.Selector).AsSelectorPreValidated())
	return selected, true, err
}

package resource

import (
	"fmt"

	v1 "k8s.io/api/resource/v1"
	alpha "k8s.io/api/resource/v1alpha3"
	beta1 "k8s.io/api/resource/v1beta1"
	beta2 "k8s.io/api/resource/v1beta2"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
)

func gvk(version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: v1.GroupName, Version: version, Kind: kind}
}

func classVersions(def func(*v1.DeviceClass)) []resources.Version {
	return []resources.Version{
		convert.Same[beta2.DeviceClass, v1.DeviceClass](gvk("v1beta2", "DeviceClass"), "v1", resources.Empty[beta2.DeviceClassList], def),
		convert.Same[beta1.DeviceClass, v1.DeviceClass](gvk("v1beta1", "DeviceClass"), "v1", resources.Empty[beta1.DeviceClassList], def),
	}
}

func taintRuleVersions(def func(*v1.DeviceTaintRule)) []resources.Version {
	versions := []resources.Version{
		convert.Same[beta2.DeviceTaintRule, v1.DeviceTaintRule](gvk("v1beta2", "DeviceTaintRule"), "v1", resources.Empty[beta2.DeviceTaintRuleList], def),
		convert.Same[alpha.DeviceTaintRule, v1.DeviceTaintRule](gvk("v1alpha3", "DeviceTaintRule"), "v1", resources.Empty[alpha.DeviceTaintRuleList], def),
	}
	for i := range versions {
		versions[i].AllowUnconditionalUpdate = true
	}
	return versions
}

func claimVersions() []resources.Version {
	return []resources.Version{
		convert.Same[beta2.ResourceClaim, v1.ResourceClaim](gvk("v1beta2", "ResourceClaim"), "v1", resources.Empty[beta2.ResourceClaimList], defaultClaim),
		older("v1beta1", resources.Empty[beta1.ResourceClaim], resources.Empty[beta1.ResourceClaimList],
			func(in *beta1.ResourceClaim) (*v1.ResourceClaim, error) {
				out := &v1.ResourceClaim{TypeMeta: typeMeta("v1", "ResourceClaim"), ObjectMeta: in.ObjectMeta}
				if err := specToHub(&out.Spec, &in.Spec); err != nil {
					return nil, err
				}
				return out, convert.Fields(&out.Status, &in.Status)
			},
			func(in *v1.ResourceClaim) (*beta1.ResourceClaim, error) {
				out := &beta1.ResourceClaim{TypeMeta: typeMeta("v1beta1", "ResourceClaim"), ObjectMeta: in.ObjectMeta}
				if err := specFromHub(&out.Spec, &in.Spec); err != nil {
					return nil, err
				}
				return out, convert.Fields(&out.Status, &in.Status)
			}, defaultClaim),
	}
}

func templateVersions() []resources.Version {
	return []resources.Version{
		convert.Same[beta2.ResourceClaimTemplate, v1.ResourceClaimTemplate](gvk("v1beta2", "ResourceClaimTemplate"), "v1", resources.Empty[beta2.ResourceClaimTemplateList], defaultTemplate),
		older("v1beta1", resources.Empty[beta1.ResourceClaimTemplate], resources.Empty[beta1.ResourceClaimTemplateList],
			func(in *beta1.ResourceClaimTemplate) (*v1.ResourceClaimTemplate, error) {
				out := &v1.ResourceClaimTemplate{TypeMeta: typeMeta("v1", "ResourceClaimTemplate"), ObjectMeta: in.ObjectMeta}
				out.Spec.ObjectMeta = in.Spec.ObjectMeta
				return out, specToHub(&out.Spec.Spec, &in.Spec.Spec)
			},
			func(in *v1.ResourceClaimTemplate) (*beta1.ResourceClaimTemplate, error) {
				out := &beta1.ResourceClaimTemplate{TypeMeta: typeMeta("v1beta1", "ResourceClaimTemplate"), ObjectMeta: in.ObjectMeta}
				out.Spec.ObjectMeta = in.Spec.ObjectMeta
				return out, specFromHub(&out.Spec.Spec, &in.Spec.Spec)
			}, defaultTemplate),
	}
}

func sliceVersions() []resources.Version {
	return []resources.Version{
		convert.Same[beta2.ResourceSlice, v1.ResourceSlice](gvk("v1beta2", "ResourceSlice"), "v1", resources.Empty[beta2.ResourceSliceList], defaultSlice),
		older("v1beta1", resources.Empty[beta1.ResourceSlice], resources.Empty[beta1.ResourceSliceList], sliceToHub, sliceFromHub, defaultSlice),
	}
}

// older is a version whose objects differ in shape from the hub's.
func older[V, H any, PV resources.Object[V], PH resources.Object[H]](name string, empty, list func() runtime.Object,
	to func(PV) (PH, error), from func(PH) (PV, error), def func(PH)) resources.Version {
	v := resources.Version{Name: name, New: empty, NewList: list, OffByDefault: true}
	v.ToHub = func(in runtime.Object) (runtime.Object, error) {
		o, ok := in.(PV)
		if !ok {
			return nil, fmt.Errorf("converting from %s: got a %T", name, in)
		}
		return to(o.DeepCopyObject().(PV))
	}
	v.FromHub = func(in runtime.Object) (runtime.Object, error) {
		o, ok := in.(PH)
		if !ok {
			return nil, fmt.Errorf("converting to %s: got a %T", name, in)
		}
		return from(o.DeepCopyObject().(PH))
	}
	v.Default = func(obj runtime.Object) {
		h, err := v.ToHub(obj)
		if err != nil {
			return
		}
		def(h.(PH))
		back, err := from(h.(PH))
		if err != nil {
			return
		}
		kind := obj.GetObjectKind().GroupVersionKind()
		*obj.(PV) = *back
		obj.GetObjectKind().SetGroupVersionKind(kind)
	}
	return v
}

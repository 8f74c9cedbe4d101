package admissionregistration

import (
	v1 "k8s.io/api/admissionregistration/v1"
	alpha "k8s.io/api/admissionregistration/v1alpha1"
	beta "k8s.io/api/admissionregistration/v1beta1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
)

func gvk(version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: v1.GroupName, Version: version, Kind: kind}
}

func mutatingPolicyVersions(def func(*v1.MutatingAdmissionPolicy)) []resources.Version {
	return []resources.Version{
		convert.Same[beta.MutatingAdmissionPolicy, v1.MutatingAdmissionPolicy](gvk("v1beta1", "MutatingAdmissionPolicy"), "v1", resources.Empty[beta.MutatingAdmissionPolicyList], def),
		convert.Same[alpha.MutatingAdmissionPolicy, v1.MutatingAdmissionPolicy](gvk("v1alpha1", "MutatingAdmissionPolicy"), "v1", resources.Empty[alpha.MutatingAdmissionPolicyList], def),
	}
}

func mutatingBindingVersions(def func(*v1.MutatingAdmissionPolicyBinding)) []resources.Version {
	return []resources.Version{
		convert.Same[beta.MutatingAdmissionPolicyBinding, v1.MutatingAdmissionPolicyBinding](gvk("v1beta1", "MutatingAdmissionPolicyBinding"), "v1", resources.Empty[beta.MutatingAdmissionPolicyBindingList], def),
		convert.Same[alpha.MutatingAdmissionPolicyBinding, v1.MutatingAdmissionPolicyBinding](gvk("v1alpha1", "MutatingAdmissionPolicyBinding"), "v1", resources.Empty[alpha.MutatingAdmissionPolicyBindingList], def),
	}
}

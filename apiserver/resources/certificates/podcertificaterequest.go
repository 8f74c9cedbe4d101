package certificates

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	beta "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
	"skiff/apiserver/resources/table"
)

// bundleBeta is the older version of a bundle; the two have one shape.
func bundleBeta() resources.Version {
	return convert.Same[beta.ClusterTrustBundle, certificatesv1.ClusterTrustBundle](
		schema.GroupVersionKind{Group: certificatesv1.GroupName, Version: "v1beta1", Kind: "ClusterTrustBundle"}, "v1",
		resources.Empty[beta.ClusterTrustBundleList], nil)
}

func podCertificateRequests() resources.Resource {
	type request = beta.PodCertificateRequest
	r := resources.Kind(certificatesv1.GroupName, "PodCertificateRequest", "podcertificaterequests", true)
	r.Hub = "v1beta1"
	hub := resources.HubVersion("v1beta1", resources.Empty[beta.PodCertificateRequestList], func(o *request) {
		o.Spec.MaxExpirationSeconds = orOneDay(o.Spec.MaxExpirationSeconds)
	})
	hub.OffByDefault = true
	r.Versions = []resources.Version{podRequestV1(), hub}
	r.Columns = table.Columns(table.Name(), table.Text("PodName", "The pod."), table.Text("ServiceAccountName", "The pod's account."),
		table.Text("NodeName", "The pod's node."), table.Text("SignerName", "Who is to sign."), table.Text("State", "What became of the request."),
		table.Text("UnverifiedUserAnnotations", "What the pod asks the signer for."))
	main, view := resources.SpecStatus(resources.Checked(resources.TypedStrategy[request, *request]{}, validatePodRequest),
		func(o *request) *beta.PodCertificateRequestSpec { return &o.Spec },
		func(o *request) *beta.PodCertificateRequestStatus { return &o.Status })
	view.ValidateUpdate = validatePodRequestStatus
	return resources.Declare(resources.Spec[request, *request]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		SelectableFields: map[string]func(*request) string{
			"spec.signerName": func(o *request) string { return o.Spec.SignerName },
			"spec.podName":    func(o *request) string { return o.Spec.PodName },
			"spec.nodeName":   func(o *request) string { return string(o.Spec.NodeName) },
		},
		Row: func(o *request) []any {
			state := "Pending"
			for _, c := range o.Status.Conditions {
				if c.Status == "True" {
					state = c.Type
				}
			}
			return []any{o.Name, o.Spec.PodName, o.Spec.ServiceAccountName, string(o.Spec.NodeName), o.Spec.SignerName, state, annotations(o.Spec.UnverifiedUserAnnotations)}
		},
	})
}

func annotations(m map[string]string) string {
	if len(m) == 0 {
		return "<none>"
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ",")
}

func orOneDay(seconds *int32) *int32 {
	if seconds == nil {
		return ptr.To[int32](86400)
	}
	return seconds
}

// podRequestV1 is the newer version, in which a key comes as a stub of a request alone.
func podRequestV1() resources.Version {
	type request = certificatesv1.PodCertificateRequest
	gv := func(version string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: certificatesv1.GroupName + "/" + version, Kind: "PodCertificateRequest"}
	}
	return resources.Version{
		Name: "v1", New: func() runtime.Object { return &request{} }, NewList: resources.Empty[certificatesv1.PodCertificateRequestList],
		Default: func(o runtime.Object) {
			if r, ok := o.(*request); ok {
				r.Spec.MaxExpirationSeconds = orOneDay(r.Spec.MaxExpirationSeconds)
			}
		},
		ToHub: func(in runtime.Object) (runtime.Object, error) {
			from, ok := in.(*request)
			if !ok {
				return nil, fmt.Errorf("converting to v1beta1: got a %T", in)
			}
			o := from.DeepCopy()
			return &beta.PodCertificateRequest{TypeMeta: gv("v1beta1"), ObjectMeta: o.ObjectMeta, Status: beta.PodCertificateRequestStatus(o.Status),
				Spec: beta.PodCertificateRequestSpec{SignerName: o.Spec.SignerName, PodName: o.Spec.PodName, PodUID: o.Spec.PodUID,
					ServiceAccountName: o.Spec.ServiceAccountName, ServiceAccountUID: o.Spec.ServiceAccountUID, NodeName: o.Spec.NodeName, NodeUID: o.Spec.NodeUID,
					MaxExpirationSeconds: o.Spec.MaxExpirationSeconds, StubPKCS10Request: o.Spec.StubPKCS10Request,
					UnverifiedUserAnnotations: o.Spec.UnverifiedUserAnnotations}}, nil
		},
		FromHub: func(in runtime.Object) (runtime.Object, error) {
			from, ok := in.(*beta.PodCertificateRequest)
			if !ok {
				return nil, fmt.Errorf("converting to v1: got a %T", in)
			}
			o := from.DeepCopy()
			return &request{TypeMeta: gv("v1"), ObjectMeta: o.ObjectMeta, Status: certificatesv1.PodCertificateRequestStatus(o.Status),
				Spec: certificatesv1.PodCertificateRequestSpec{SignerName: o.Spec.SignerName, PodName: o.Spec.PodName, PodUID: o.Spec.PodUID,
					ServiceAccountName: o.Spec.ServiceAccountName, ServiceAccountUID: o.Spec.ServiceAccountUID, NodeName: o.Spec.NodeName, NodeUID: o.Spec.NodeUID,
					MaxExpirationSeconds: o.Spec.MaxExpirationSeconds, StubPKCS10Request: o.Spec.StubPKCS10Request,
					UnverifiedUserAnnotations: o.Spec.UnverifiedUserAnnotations}}, nil
		},
	}
}

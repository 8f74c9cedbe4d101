package certificates

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	beta "k8s.io/api/certificates/v1beta1"
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
		if o.Spec.MaxExpirationSeconds == nil {
			o.Spec.MaxExpirationSeconds = ptr.To[int32](86400)
		}
	})
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub}
	r.Columns = table.Columns(table.Name(), table.Text("PodName", "The pod."), table.Text("ServiceAccountName", "The pod's account."),
		table.Text("NodeName", "The pod's node."), table.Text("SignerName", "Who is to sign."), table.Text("State", "What became of the request."))
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
			return []any{o.Name, o.Spec.PodName, o.Spec.ServiceAccountName, string(o.Spec.NodeName), o.Spec.SignerName, state}
		},
	})
}

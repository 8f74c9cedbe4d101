package node

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// podCertificate lets a node ask for certificates, for which pods NodeRestriction
// says, and read what became of its own requests. What signers write is not a node's.
func (a *Authorizer) podCertificate(ctx context.Context, node string, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	if attrs.GetSubresource() != "" {
		return no("nodes may not access the status subresource of PodCertificateRequests")
	}
	switch verb := attrs.GetVerb(); verb {
	case "create":
		return yes()
	case "get":
		if soon(ctx, func() bool {
			obj, ok, err := a.certificates.GetByKey(attrs.GetNamespace() + "/" + attrs.GetName())
			if err != nil || !ok {
				return false
			}
			r, is := obj.(*certificatesv1.PodCertificateRequest)
			return is && r.Spec.NodeName == types.NodeName(node)
		}) {
			return yes()
		}
		return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
	case "list", "watch":
		if selected, err := attrs.GetFieldSelector(); err == nil && ofNode(selected, node) {
			return yes()
		}
		return no("can only list/watch podcertificaterequests with nodeName field selector")
	default:
		return no(fmt.Sprintf("nodes may not %s podcertificaterequests", verb))
	}
}

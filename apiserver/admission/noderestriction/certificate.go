package noderestriction

import (
	"context"
	"fmt"
	"slices"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/admission"
)

// certificate lets a node ask for certificates of the pods that run on it: who
// holds a node's credentials gets no identity that is not there already.
func (p *Plugin) certificate(ctx context.Context, a *admission.Attributes, node string) error {
	if a.Operation != admission.Create {
		return fmt.Errorf("unexpected operation %v", a.Operation)
	}
	if a.Subresource != "" {
		return fmt.Errorf("unexpected subresource %v", a.Subresource)
	}
	r, ok := a.Object.(*certificatesv1beta1.PodCertificateRequest)
	if !ok {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	s := &r.Spec
	if string(s.NodeName) != node {
		return refuse("PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", string(s.NodeName), node)
	}
	n, err := p.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if n.UID != s.NodeUID {
		return refuse("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", a.Namespace+"/"+s.PodName, string(s.NodeUID), string(n.UID))
	}
	if err := p.certificatePod(ctx, a.Namespace, s); err != nil {
		return err
	}
	account, err := p.client.CoreV1().ServiceAccounts(a.Namespace).Get(ctx, s.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if account.UID != s.ServiceAccountUID {
		return refuse("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", a.Namespace+"/"+s.PodName, string(s.ServiceAccountUID), string(account.UID))
	}
	return nil
}

// certificatePod checks that the pod is there, on the node and of the account, and
// that it asks that signer for a certificate.
func (p *Plugin) certificatePod(ctx context.Context, namespace string, s *certificatesv1beta1.PodCertificateRequestSpec) error {
	name := namespace + "/" + s.PodName
	pod, err := p.find(ctx, namespace, s.PodName)
	if err == nil && (pod.UID != s.PodUID || pod.Spec.NodeName != string(s.NodeName)) {
		// The kubelet may know of a pod's binding before the informer does.
		pod, err = p.client.CoreV1().Pods(namespace).Get(ctx, s.PodName, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	if pod.UID != s.PodUID {
		return refuse("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", name, string(s.PodUID), string(pod.UID))
	}
	if pod.Spec.NodeName != string(s.NodeName) {
		return refuse("pod %q is not running on node %q named in the PodCertificateRequest", name, string(s.NodeName))
	}
	if _, mirror := pod.Annotations[v1.MirrorPodAnnotationKey]; mirror {
		return refuse("pod %q is a mirror pod", name)
	}
	if pod.Spec.ServiceAccountName != s.ServiceAccountName {
		return refuse("PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", name, s.ServiceAccountName, pod.Spec.ServiceAccountName)
	}
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(p v1.VolumeProjection) bool {
			return p.PodCertificate != nil && p.PodCertificate.SignerName == s.SignerName
		})
	}) {
		return refuse("PodCertificateRequest for pod %q names signer %q, of which the pod asks for no certificate", name, s.SignerName)
	}
	return nil
}

// refuse is a refusal with the values that do not fit.
func refuse(format string, values ...string) error {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return fmt.Errorf(format, args...)
}

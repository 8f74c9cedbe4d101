// Package node authorises kubelets (KEP: node authorizer): a node reads the
// objects that pods bound to it refer to, and no other node's.
package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

const byNode = "node-authorizer"

const (
	// patience is how long an answer waits for the informers: a kubelet hears of
	// its pods no later than they do, and asks for what they need at once.
	patience = 500 * time.Millisecond
	interval = 5 * time.Millisecond
)

// Authorizer decides on the requests of nodes. It has no opinion on others'.
type Authorizer struct {
	authorizer.AuthorizerFunc
	pods    cache.Indexer
	volumes cache.Store
	slices  cache.Store
	// attachments are VolumeAttachments, certificates PodCertificateRequests.
	attachments, certificates cache.Store
}

// New wires the authorizer to the factory's informers.
func New(f informers.SharedInformerFactory) (*Authorizer, error) {
	pods := f.Core().V1().Pods().Informer()
	if err := pods.AddIndexers(cache.Indexers{byNode: func(obj any) ([]string, error) {
		if p, ok := obj.(*corev1.Pod); ok && p.Spec.NodeName != "" {
			return []string{p.Spec.NodeName}, nil
		}
		return nil, nil
	}}); err != nil {
		return nil, fmt.Errorf("node authorizer: %w", err)
	}
	a := &Authorizer{
		pods:    pods.GetIndexer(),
		volumes: f.Core().V1().PersistentVolumes().Informer().GetStore(),
		slices:  f.Resource().V1().ResourceSlices().Informer().GetStore(),

		attachments:  f.Storage().V1().VolumeAttachments().Informer().GetStore(),
		certificates: f.Certificates().V1().PodCertificateRequests().Informer().GetStore(),
	}
	a.AuthorizerFunc = a.Authorize
	return a, nil
}

// Name is the node that a user is, or "".
func Name(u user.Info) string {
	if u == nil || !slices.Contains(u.GetGroups(), user.NodesGroup) {
		return ""
	}
	name, ok := strings.CutPrefix(u.GetName(), "system:node:")
	if !ok {
		return ""
	}
	return name
}

// Authorize answers for nodes.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	node := Name(attrs.GetUser())
	if node == "" || !attrs.IsResourceRequest() {
		return authorizer.DecisionNoOpinion, "", nil
	}
	verb, sub := attrs.GetVerb(), attrs.GetSubresource()
	read := verb == "get" || verb == "list" || verb == "watch"
	switch attrs.GetAPIGroup() + "/" + attrs.GetResource() {
	case "/secrets", "/configmaps":
		if !read || sub != "" {
			return no("can only read resources of this type")
		}
		if attrs.GetName() == "" {
			return no("No Object name found")
		}
		if soon(ctx, func() bool {
			return a.uses(node, func(p *corev1.Pod) bool { return refers(p, attrs.GetResource(), attrs.GetNamespace(), attrs.GetName()) }) ||
				attrs.GetResource() == "secrets" && a.usesVolumeSecret(node, attrs.GetNamespace(), attrs.GetName())
		}) {
			return yes()
		}
		return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
	case "/persistentvolumeclaims":
		if sub == "status" && (verb == "update" || verb == "patch") || verb == "get" {
			if soon(ctx, func() bool {
				return a.uses(node, func(p *corev1.Pod) bool { return p.Namespace == attrs.GetNamespace() && claims(p, attrs.GetName()) })
			}) {
				return yes()
			}
			return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
		}
	case "/persistentvolumes":
		if verb == "get" && sub == "" {
			if soon(ctx, func() bool { return a.usesVolume(node, attrs.GetName()) }) {
				return yes()
			}
			return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
		}
	case "/serviceaccounts":
		// The account is read for credential providers that want its annotations (KEP-4412).
		if verb == "create" && sub == "token" || verb == "get" && sub == "" {
			if soon(ctx, func() bool {
				return a.uses(node, func(p *corev1.Pod) bool {
					return p.Namespace == attrs.GetNamespace() && p.Spec.ServiceAccountName == attrs.GetName()
				})
			}) {
				return yes()
			}
			return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
		}
	case "/nodes":
		return ownNode(node, attrs)
	case "/pods":
		return a.pod(ctx, node, attrs)
	case "/services":
		if read {
			return yes()
		}
	case "/events", "events.k8s.io/events":
		if verb == "create" || verb == "update" || verb == "patch" {
			return yes()
		}
	case "coordination.k8s.io/leases":
		if attrs.GetNamespace() != corev1.NamespaceNodeLease {
			return no("can only access leases in the \"kube-node-lease\" system namespace")
		}
		if verb == "create" || attrs.GetName() == node {
			return yes()
		}
		return no("can only access node lease with the same name as the requesting node")
	case "storage.k8s.io/csinodes":
		if verb == "create" || attrs.GetName() == node && (read || verb == "update" || verb == "patch" || verb == "delete") {
			return yes()
		}
	case "storage.k8s.io/csidrivers", "node.k8s.io/runtimeclasses", "certificates.k8s.io/clustertrustbundles":
		if read {
			return yes()
		}
	case "resource.k8s.io/resourceclaims":
		if verb != "get" || sub != "" {
			return no("can only get resourceclaims")
		}
		if a.uses(node, func(p *corev1.Pod) bool {
			return p.Namespace == attrs.GetNamespace() && usesResourceClaim(p, attrs.GetName())
		}) {
			return yes()
		}
		return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
	case "resource.k8s.io/resourceslices":
		return a.resourceSlice(node, attrs)
	case "storage.k8s.io/volumeattachments":
		if verb != "get" || sub != "" {
			return no("can only get individual resources of this type")
		}
		if soon(ctx, func() bool { return a.isAttachedTo(node, attrs.GetName()) }) {
			return yes()
		}
		return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
	case "certificates.k8s.io/certificatesigningrequests":
		if sub == "" && (verb == "create" || read) {
			return yes()
		}
	case "certificates.k8s.io/podcertificaterequests":
		return a.podCertificate(ctx, node, attrs)
	case "authentication.k8s.io/tokenreviews", "authorization.k8s.io/subjectaccessreviews", "authorization.k8s.io/localsubjectaccessreviews":
		if verb == "create" {
			return yes()
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func yes() (authorizer.Decision, string, error) { return authorizer.DecisionAllow, "", nil }

func no(reason string) (authorizer.Decision, string, error) {
	if reason != "" {
		reason = "node: " + reason
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

// soon asks until the answer is yes, or too long.
func soon(ctx context.Context, related func() bool) bool {
	if related() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return related()
		case <-tick.C:
			if related() {
				return true
			}
		}
	}
}

func (a *Authorizer) uses(node string, does func(*corev1.Pod) bool) bool {
	pods, err := a.pods.ByIndex(byNode, node)
	if err != nil {
		return false
	}
	for _, obj := range pods {
		if does(obj.(*corev1.Pod)) {
			return true
		}
	}
	return false
}

func claims(p *corev1.Pod, name string) bool {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == name || v.Ephemeral != nil && p.Name+"-"+v.Name == name {
			return true
		}
	}
	return false
}

func (a *Authorizer) usesVolume(node, volume string) bool {
	obj, ok, err := a.volumes.GetByKey(volume)
	if err != nil || !ok {
		return false
	}
	ref := obj.(*corev1.PersistentVolume).Spec.ClaimRef
	return ref != nil && a.uses(node, func(p *corev1.Pod) bool { return p.Namespace == ref.Namespace && claims(p, ref.Name) })
}

// usesVolumeSecret tells whether a volume of a pod on the node needs the secret.
func (a *Authorizer) usesVolumeSecret(node, namespace, name string) bool {
	for _, obj := range a.volumes.List() {
		pv := obj.(*corev1.PersistentVolume)
		if c := pv.Spec.CSI; c != nil {
			for _, ref := range []*corev1.SecretReference{c.NodePublishSecretRef, c.NodeStageSecretRef, c.NodeExpandSecretRef} {
				if ref != nil && ref.Namespace == namespace && ref.Name == name && a.usesVolume(node, pv.Name) {
					return true
				}
			}
		}
	}
	return false
}

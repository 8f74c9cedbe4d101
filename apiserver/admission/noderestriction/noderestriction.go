// Package noderestriction holds kubelets to their own node and its pods.
package noderestriction

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
	"skiff/apiserver/admission/podrefs"
)

// Name of the plugin.
const Name = "NodeRestriction"

const userPrefix = "system:node:"

// Plugin restricts.
type Plugin struct {
	client kubernetes.Interface
	pods   corelisters.PodLister
}

// New makes the plugin.
func New(client kubernetes.Interface, pods corelisters.PodLister) *Plugin {
	return &Plugin{client: client, pods: pods}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations, updates and deletions.
func (*Plugin) Handles(op admission.Operation) bool { return op != admission.Connect }

// nodeOf is the node whose kubelet the user is.
func nodeOf(u user.Info) (name string, isNode bool) {
	if u == nil || !slices.Contains(u.GetGroups(), user.NodesGroup) {
		return "", false
	}
	name, ok := strings.CutPrefix(u.GetName(), userPrefix)
	return name, ok
}

// Admit decides; it changes nothing.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	node, is := nodeOf(a.User)
	if !is {
		return nil
	}
	if node == "" {
		return admission.Forbidden(a, fmt.Errorf("could not determine node from user %q", a.User.GetName()))
	}
	var err error
	switch a.Resource.Group + "/" + a.Resource.Resource + "/" + a.Subresource {
	case "/pods/":
		err = p.pod(ctx, a, node)
	case "/pods/status":
		err = podStatus(a, node)
	case "/pods/eviction":
		err = p.eviction(ctx, a, node)
	case "/persistentvolumeclaims/":
		err = errors.New("may only update PVC status")
	case "/persistentvolumeclaims/status":
		err = claimStatus(a, node)
	case "/nodes/", "/nodes/status":
		err = ownNode(a, node)
	case "/serviceaccounts/token":
		err = p.token(ctx, a, node)
	case "coordination.k8s.io/leases/":
		err = lease(a, node)
	case "storage.k8s.io/csinodes/":
		err = csiNode(a, node)
	case "resource.k8s.io/resourceslices/":
		err = resourceSlice(a, node)
	case "certificates.k8s.io/certificatesigningrequests/":
		err = signing(a)
	case "certificates.k8s.io/podcertificaterequests/", "certificates.k8s.io/podcertificaterequests/status":
		err = p.certificate(ctx, a, node)
	default:
		return nil
	}
	if err != nil {
		if apierrors.IsNotFound(err) {
			return err
		}
		return admission.Forbidden(a, err)
	}
	return nil
}

func (p *Plugin) find(ctx context.Context, ns, name string) (*v1.Pod, error) {
	return lookup.Get(ctx, name, p.pods.Pods(ns).Get, p.client.CoreV1().Pods(ns).Get)
}

func (p *Plugin) pod(ctx context.Context, a *admission.Attributes, node string) error {
	switch a.Operation {
	case admission.Create:
		pod, ok := a.Object.(*v1.Pod)
		if !ok {
			return fmt.Errorf("unexpected type %T", a.Object)
		}
		if _, mirror := pod.Annotations[v1.MirrorPodAnnotationKey]; !mirror {
			return fmt.Errorf("pod does not have %q annotation, node %q can only create mirror pods", v1.MirrorPodAnnotationKey, node)
		}
		if pod.Spec.NodeName != node {
			return fmt.Errorf("node %q can only create pods with spec.nodeName set to itself", node)
		}
		switch len(pod.OwnerReferences) {
		case 0:
			return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
		case 1:
		default:
			return fmt.Errorf("node %q can only create pods with a single owner reference set to itself", node)
		}
		for _, o := range pod.OwnerReferences {
			if o.APIVersion != "v1" || o.Kind != "Node" || o.Name != node {
				return fmt.Errorf("node %q can only create pods with an owner reference set to itself", node)
			}
			if o.Controller == nil || !*o.Controller {
				return fmt.Errorf("node %q can only create pods with a controller owner reference set to itself", node)
			}
			if o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion {
				return fmt.Errorf("node %q must not set blockOwnerDeletion on an owner reference", node)
			}
			owner, err := p.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if owner.UID != o.UID {
				return fmt.Errorf("node %s UID mismatch: expected %s got %s", node, o.UID, owner.UID)
			}
		}
		return references(pod, node)
	case admission.Delete:
		pod, err := p.find(ctx, a.Namespace, a.Name)
		if err != nil {
			return err
		}
		if pod.Spec.NodeName != node {
			return fmt.Errorf("node %q can only delete pods with spec.nodeName set to itself", node)
		}
		return nil
	}
	return fmt.Errorf("unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
}

// references refuses what would give a kubelet access to objects through its own pods.
func references(pod *v1.Pod, node string) error {
	if pod.Spec.ServiceAccountName != "" {
		return fmt.Errorf("node %q can not create pods that reference a service account", node)
	}
	refuse := func(what string) error {
		return fmt.Errorf("node %q can not create pods that reference %s", node, what)
	}
	if podrefs.Any(podrefs.Secrets(&pod.Spec)) {
		return refuse("secrets")
	}
	if podrefs.Any(podrefs.ConfigMaps(&pod.Spec)) {
		return refuse("configmaps")
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return refuse("persistentvolumeclaims")
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			switch {
			case s.ServiceAccountToken != nil:
				return refuse("a service account")
			case s.ClusterTrustBundle != nil:
				return refuse("clustertrustbundles")
			case s.PodCertificate != nil:
				return refuse("pod certificates")
			}
		}
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return refuse("resourceclaims")
	}
	return nil
}

func podStatus(a *admission.Attributes, node string) error {
	if a.Operation != admission.Update {
		return fmt.Errorf("unexpected operation %q, node %q can only update pod status", a.Operation, node)
	}
	old, ok := a.OldObject.(*v1.Pod)
	pod, ok2 := a.Object.(*v1.Pod)
	if !ok || !ok2 {
		return fmt.Errorf("unexpected type %T", a.OldObject)
	}
	if old.Spec.NodeName != node {
		return fmt.Errorf("node %q can only update pod status for pods with spec.nodeName set to itself", node)
	}
	if !maps.Equal(old.Labels, pod.Labels) {
		return fmt.Errorf("node %q cannot update labels through pod status", node)
	}
	if !equality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses) {
		return fmt.Errorf("node %q cannot update resource claim statues", node)
	}
	if !equality.Semantic.DeepEqual(old.Status.ExtendedResourceClaimStatus, pod.Status.ExtendedResourceClaimStatus) {
		return fmt.Errorf("node %q cannot update extended resource claim status", node)
	}
	return nil
}

func (p *Plugin) eviction(ctx context.Context, a *admission.Attributes, node string) error {
	e, ok := a.Object.(*policyv1.Eviction)
	if !ok || a.Operation != admission.Create {
		return fmt.Errorf("unexpected operation %q", a.Operation)
	}
	name := a.Name
	if name == "" {
		name = e.Name
	}
	if name == "" {
		return errors.New("could not determine pod from request data")
	}
	pod, err := p.find(ctx, a.Namespace, name)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName != node {
		return fmt.Errorf("node %s can only evict pods with spec.nodeName set to itself", node)
	}
	return nil
}

func ownNode(a *admission.Attributes, node string) error {
	if name := a.ObjectName(); name != node {
		return fmt.Errorf("node %q is not allowed to modify node %q", node, name)
	}
	n, _ := a.Object.(*v1.Node)
	switch {
	case a.Operation == admission.Create && n != nil:
		if bad := forbiddenLabels(n.Labels, nil); len(bad) > 0 {
			return fmt.Errorf("is not allowed to set the following labels: %s", strings.Join(bad, ", "))
		}
		if len(n.OwnerReferences) > 0 {
			return fmt.Errorf("node %q is not allowed to set ownerReferences", node)
		}
	case a.Operation == admission.Update && n != nil:
		old, ok := a.OldObject.(*v1.Node)
		if !ok {
			return fmt.Errorf("unexpected type %T", a.OldObject)
		}
		if !equality.Semantic.DeepEqual(n.OwnerReferences, old.OwnerReferences) {
			return fmt.Errorf("node %q is not allowed to modify ownerReferences", node)
		}
		if !equality.Semantic.DeepEqual(n.Spec.Taints, old.Spec.Taints) {
			return fmt.Errorf("node %q is not allowed to modify taints", node)
		}
		if bad := forbiddenLabels(n.Labels, old.Labels); len(bad) > 0 {
			return fmt.Errorf("is not allowed to modify labels: %s", strings.Join(bad, ", "))
		}
	}
	return nil
}

// forbiddenLabels are those of Kubernetes' own domains that changed and that a kubelet may not set.
func forbiddenLabels(now, old map[string]string) []string {
	allowed := []string{v1.LabelHostname, v1.LabelTopologyZone, v1.LabelTopologyRegion, v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaRegion,
		v1.LabelInstanceType, v1.LabelInstanceTypeStable, v1.LabelOSStable, v1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch"}
	changed := map[string]bool{}
	for k, v := range now {
		if o, ok := old[k]; !ok || o != v {
			changed[k] = true
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			changed[k] = true
		}
	}
	within := func(domain, of string) bool { return domain == of || strings.HasSuffix(domain, "."+of) }
	var out []string
	for k := range changed {
		domain, _, ok := strings.Cut(k, "/")
		if !ok || (!within(domain, "kubernetes.io") && !within(domain, "k8s.io")) {
			continue
		}
		if slices.Contains(allowed, k) || (!within(domain, "node-restriction.kubernetes.io") && (within(domain, "kubelet.kubernetes.io") || within(domain, "node.kubernetes.io"))) {
			continue
		}
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (p *Plugin) token(ctx context.Context, a *admission.Attributes, node string) error {
	tr, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok || a.Operation != admission.Create {
		return fmt.Errorf("unexpected type %T", a.Object)
	}
	ref := tr.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return errors.New("node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return errors.New("node requested token with a pod binding without a uid")
	}
	pod, err := p.find(ctx, a.Namespace, ref.Name)
	if err == nil && (pod.UID != ref.UID || pod.Spec.NodeName != node) {
		// The kubelet may know of a pod's binding before the informer does.
		pod, err = p.client.CoreV1().Pods(a.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	if pod.UID != ref.UID {
		return fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != node {
		return errors.New("node requested token bound to a pod scheduled on a different node")
	}
	return nil
}

func lease(a *admission.Attributes, node string) error {
	if a.Namespace != v1.NamespaceNodeLease {
		return fmt.Errorf("can only access leases in the %q system namespace", v1.NamespaceNodeLease)
	}
	name := a.Name
	if l, ok := a.Object.(*coordinationv1.Lease); ok && a.Operation == admission.Create {
		name = l.Name
	}
	if name != node {
		return errors.New("can only access node lease with the same name as the requesting node")
	}
	return nil
}

func csiNode(a *admission.Attributes, node string) error {
	name := a.Name
	if c, ok := a.Object.(*storagev1.CSINode); ok && a.Operation == admission.Create {
		name = c.Name
	}
	if name != node {
		return errors.New("can only access CSINode with the same name as the requesting node")
	}
	return nil
}

// resourceSlice keeps a node to its own devices; the authorizer looks at those
// that exist.
func resourceSlice(a *admission.Attributes, node string) error {
	s, ok := a.Object.(*resourceapi.ResourceSlice)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	if s.Spec.NodeName == nil || *s.Spec.NodeName != node {
		return errors.New("can only create ResourceSlice with the same NodeName as the requesting node")
	}
	return nil
}

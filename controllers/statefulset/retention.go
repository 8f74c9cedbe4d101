package statefulset

import (
	"context"
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Owners are the owner references that a claim should have by the set's
// retention policy: the garbage collector deletes it with them.
func Owners(set *apps.StatefulSet, claim *v1.PersistentVolumeClaim, pod *v1.Pod, surplus bool) []metav1.OwnerReference {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	ours := func(r metav1.OwnerReference) bool {
		return r.UID == set.UID || r.Kind == "Pod" && r.Name == pod.Name && r.APIVersion == "v1"
	}
	out := slices.DeleteFunc(slices.Clone(claim.OwnerReferences), ours)
	switch {
	case policy == nil:
	case surplus && policy.WhenScaled == apps.DeletePersistentVolumeClaimRetentionPolicyType:
		out = append(out, *metav1.NewControllerRef(pod, v1.SchemeGroupVersion.WithKind("Pod")))
	case policy.WhenDeleted == apps.DeletePersistentVolumeClaimRetentionPolicyType:
		out = append(out, *metav1.NewControllerRef(set, kind))
	}
	for i := range out {
		if ours(out[i]) {
			out[i].BlockOwnerDeletion = nil
		}
	}
	return out
}

// retain brings the owners of the pods' claims in line with the policy.
func (c *Controller) retain(ctx context.Context, set *apps.StatefulSet, pods []*v1.Pod) error {
	if set.Spec.PersistentVolumeClaimRetentionPolicy == nil || len(set.Spec.VolumeClaimTemplates) == 0 || set.DeletionTimestamp != nil {
		return nil
	}
	for _, pod := range pods {
		ordinal := ordinalOf(set, pod)
		surplus := ordinal < first(set) || ordinal >= first(set)+replicas(set)
		for _, wanted := range NewClaims(set, ordinal) {
			claim, err := c.claims.PersistentVolumeClaims(set.Namespace).Get(wanted.Name)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			owners := Owners(set, claim, pod, surplus)
			if equality.Semantic.DeepEqual(uids(owners), uids(claim.OwnerReferences)) {
				continue
			}
			next := claim.DeepCopy()
			next.OwnerReferences = owners
			if _, err := c.parts.Client.CoreV1().PersistentVolumeClaims(set.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}

func uids(refs []metav1.OwnerReference) []types.UID {
	var out []types.UID
	for _, r := range refs {
		out = append(out, r.UID)
	}
	slices.Sort(out)
	return out
}

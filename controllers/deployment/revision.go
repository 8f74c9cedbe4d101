package deployment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/controllers/podcontrol"
)

// Annotations that kubectl and this controller read.
const (
	Revision        = "deployment.kubernetes.io/revision"
	RevisionHistory = "deployment.kubernetes.io/revision-history"
	DesiredReplicas = "deployment.kubernetes.io/desired-replicas"
	MaxReplicas     = "deployment.kubernetes.io/max-replicas"
)

// historyLength bounds the revision-history annotation.
const historyLength = 2000

// own says whether an annotation belongs to one object and is not carried
// between a Deployment and its sets.
func own(key string) bool {
	switch key {
	case v1.LastAppliedConfigAnnotation, Revision, RevisionHistory, DesiredReplicas, MaxReplicas, apps.DeprecatedRollbackTo:
		return true
	}
	return false
}

func sameTemplate(a, b *v1.PodTemplateSpec) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	delete(x.Labels, apps.DefaultDeploymentUniqueLabelKey)
	delete(y.Labels, apps.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(x, y)
}

// FindNew is the set with the Deployment's template; the eldest when several
// have it, so that the choice never changes.
func FindNew(d *apps.Deployment, sets []*apps.ReplicaSet) *apps.ReplicaSet {
	sorted := slices.SortedFunc(slices.Values(sets), elder)
	for _, rs := range sorted {
		if sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	return nil
}

func elder(a, b *apps.ReplicaSet) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}

func revisionOf(rs *apps.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[Revision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func maxRevision(sets []*apps.ReplicaSet) int64 {
	var n int64
	for _, rs := range sets {
		n = max(n, revisionOf(rs))
	}
	return n
}

func previousRevision(sets []*apps.ReplicaSet) int64 {
	var last, before int64
	for _, rs := range sets {
		switch n := revisionOf(rs); {
		case n >= last:
			last, before = n, last
		case n > before:
			before = n
		}
	}
	return before
}

func byRevision(sets []*apps.ReplicaSet, n int64) *apps.ReplicaSet {
	for _, rs := range sets {
		if n > 0 && revisionOf(rs) == n {
			return rs
		}
	}
	return nil
}

func takeTemplate(d *apps.Deployment, rs *apps.ReplicaSet) {
	d.Spec.Template = *rs.Spec.Template.DeepCopy()
	delete(d.Spec.Template.Labels, apps.DefaultDeploymentUniqueLabelKey)
	kept := map[string]string{}
	for k, v := range d.Annotations {
		if own(k) {
			kept[k] = v
		}
	}
	for k, v := range rs.Annotations {
		if !own(k) {
			kept[k] = v
		}
	}
	d.Annotations = kept
}

// annotate brings a set's annotations up to its Deployment and revision.
func annotate(d *apps.Deployment, rs *apps.ReplicaSet, revision int64, exists bool) bool {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	changed := false
	for k, v := range d.Annotations {
		if old, ok := rs.Annotations[k]; !own(k) && (!ok || old != v) {
			rs.Annotations[k] = v
			changed = true
		}
	}
	was, had := rs.Annotations[Revision]
	if old := revisionOf(rs); old < revision {
		rs.Annotations[Revision] = strconv.FormatInt(revision, 10)
		changed = true
		if had && old > 0 {
			history := strings.FieldsFunc(rs.Annotations[RevisionHistory], func(r rune) bool { return r == ',' })
			if !slices.Contains(history, was) {
				history = append(history, was)
			}
			for len(strings.Join(history, ",")) > historyLength && len(history) > 1 {
				history = history[1:]
			}
			rs.Annotations[RevisionHistory] = strings.Join(history, ",")
		}
	}
	if !exists && noteSizes(rs, replicas(d), replicas(d)+MaxSurge(d)) {
		changed = true
	}
	return changed
}

// noteSizes records the Deployment's size on a set, from which a later sync
// sees that the Deployment was rescaled.
func noteSizes(rs *apps.ReplicaSet, desired, most int32) bool {
	want := map[string]string{DesiredReplicas: strconv.Itoa(int(desired)), MaxReplicas: strconv.Itoa(int(most))}
	changed := false
	for k, v := range want {
		if rs.Annotations[k] != v {
			if rs.Annotations == nil {
				rs.Annotations = map[string]string{}
			}
			rs.Annotations[k] = v
			changed = true
		}
	}
	return changed
}

func noteRevision(d *apps.Deployment, revision string) bool {
	if d.Annotations[Revision] == revision {
		return false
	}
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[Revision] = revision
	return true
}

// revision finds the set of the current template, or makes it, and gives it
// the newest revision.
func (r *rollout) revision(ctx context.Context, create bool) (newSet *apps.ReplicaSet, old []*apps.ReplicaSet, err error) {
	newSet, old = r.split()
	next := maxRevision(old) + 1
	if newSet != nil {
		newSet, err = r.refresh(ctx, newSet, next)
		return newSet, old, err
	}
	if !create {
		return nil, old, nil
	}
	newSet, err = r.create(ctx, old, next)
	return newSet, old, err
}

func (r *rollout) refresh(ctx context.Context, rs *apps.ReplicaSet, revision int64) (*apps.ReplicaSet, error) {
	copied := rs.DeepCopy()
	changed := annotate(r.d, copied, revision, true)
	if changed || copied.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		copied.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
		updated, err := r.parts.Client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, copied, metav1.UpdateOptions{})
		if err != nil {
			return nil, err
		}
		for i := range r.sets {
			if r.sets[i].UID == updated.UID {
				r.sets[i] = updated
			}
		}
		return updated, nil
	}
	write := noteRevision(r.d, copied.Annotations[Revision])
	if !noDeadline(r.d) && condition(r.d.Status, apps.DeploymentProgressing) == nil {
		setCondition(&r.d.Status, progressing(v1.ConditionTrue, reasonFound, fmt.Sprintf("Found new replica set %q", rs.Name)), r.parts.Clock.Now())
		write = true
	}
	if write {
		if err := r.updateStatus(ctx); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// NewSet is the ReplicaSet that carries the Deployment's template.
func NewSet(d *apps.Deployment, old []*apps.ReplicaSet, revision int64) *apps.ReplicaSet {
	hash := podcontrol.TemplateHash(&d.Spec.Template, d.Status.CollisionCount)
	template := d.Spec.Template.DeepCopy()
	template.Labels = maps.Clone(template.Labels)
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[apps.DefaultDeploymentUniqueLabelKey] = hash
	selector := d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[apps.DefaultDeploymentUniqueLabelKey] = hash
	rs := &apps.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name:            d.Name + "-" + hash,
			Namespace:       d.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, kind)},
			Labels:          template.Labels,
		},
		Spec: apps.ReplicaSetSpec{
			Replicas:        ptr.To[int32](0),
			MinReadySeconds: d.Spec.MinReadySeconds,
			Selector:        selector,
			Template:        *template,
		},
	}
	*rs.Spec.Replicas = NewReplicas(d, join(old, rs), rs)
	annotate(d, rs, revision, false)
	return rs
}

func (r *rollout) create(ctx context.Context, old []*apps.ReplicaSet, revision int64) (*apps.ReplicaSet, error) {
	wanted := NewSet(r.d, old, revision)
	client := r.parts.Client.AppsV1().ReplicaSets(r.d.Namespace)
	made, err := client.Create(ctx, wanted, metav1.CreateOptions{})
	existed := false
	switch {
	case apierrors.IsAlreadyExists(err):
		found, getErr := client.Get(ctx, wanted.Name, metav1.GetOptions{})
		if getErr != nil {
			return nil, getErr
		}
		if !metav1.IsControlledBy(found, r.d) || !sameTemplate(&found.Spec.Template, &r.d.Spec.Template) {
			// Another template has the same hash: mix in one more collision.
			r.d.Status.CollisionCount = ptr.To(ptr.Deref(r.d.Status.CollisionCount, 0) + 1)
			return nil, errors.Join(err, r.updateStatus(ctx))
		}
		made, existed = found, true
	case apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause):
		return nil, err
	case err != nil:
		message := fmt.Sprintf("Failed to create new replica set %q: %v", wanted.Name, err)
		if !noDeadline(r.d) {
			setCondition(&r.d.Status, progressing(v1.ConditionFalse, reasonCreateError, message), r.parts.Clock.Now())
			// The first error is the one to tell.
			_ = r.updateStatus(ctx)
		}
		r.parts.Events.Event(r.d, v1.EventTypeWarning, reasonCreateError, message)
		return nil, err
	}
	if !existed && *made.Spec.Replicas > 0 {
		r.parts.Events.Eventf(r.d, v1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", made.Name, *made.Spec.Replicas)
	}
	r.sets = append(r.sets, made)
	write := noteRevision(r.d, strconv.FormatInt(revision, 10))
	if !existed && !noDeadline(r.d) {
		setCondition(&r.d.Status, progressing(v1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", made.Name)), r.parts.Clock.Now())
		write = true
	}
	if write {
		if err := r.updateStatus(ctx); err != nil {
			return nil, err
		}
	}
	return made, nil
}

package aggregate

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// The label of APIServices that the server keeps, and its values: those that are
// set right when the server starts, and those that are always.
const (
	managedLabel   = "kube-aggregator.kubernetes.io/automanaged"
	managedAtStart = "onstart"
	managedAlways  = "true"
)

// Local is a group version that this server serves.
type Local struct {
	schema.GroupVersion
	// Custom: it is made of custom resource definitions, and comes and goes.
	Custom bool
}

// unlisted groups have no APIServices; replaceable ones may be taken over by
// another server, and are then left alone.
const (
	unlisted    = "apiregistration.k8s.io"
	replaceable = "metrics.k8s.io"
)

// groupPriorities are Kubernetes' own, by group.
var groupPriorities = map[string]int32{
	"": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
	"autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
	"rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "admissionregistration.k8s.io": 16700,
	"apiextensions.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500, "node.k8s.io": 16300,
	"discovery.k8s.io": 16200, "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100, "internal.apiserver.k8s.io": 16000,
	"storagemigration.k8s.io": 15800,
}

const (
	otherGroupPriority  = 15000
	customGroupPriority = 1000
	customPriority      = 100
)

// versionPriorities are Kubernetes' own where they are not those of other versions of their kind.
var versionPriorities = map[schema.GroupVersion]int32{
	{Group: "", Version: "v1"}: 1, {Group: "autoscaling", Version: "v2"}: 30, {Group: "flowcontrol.apiserver.k8s.io", Version: "v1"}: 21,
	{Group: "resource.k8s.io", Version: "v1"}: 21, {Group: "resource.k8s.io", Version: "v1beta2"}: 15,
	{Group: "admissionregistration.k8s.io", Version: "v1beta1"}: 12, {Group: "admissionregistration.k8s.io", Version: "v1alpha1"}: 9,
	{Group: "coordination.k8s.io", Version: "v1beta1"}: 13, {Group: "coordination.k8s.io", Version: "v1alpha2"}: 12,
	{Group: "internal.apiserver.k8s.io", Version: "v1alpha1"}: 9, {Group: "scheduling.k8s.io", Version: "v1alpha3"}: 3,
}

func versionPriority(gv schema.GroupVersion) int32 {
	if priority, ok := versionPriorities[gv]; ok {
		return priority
	}
	switch {
	case strings.Contains(gv.Version, "alpha"):
		return 1
	case strings.Contains(gv.Version, "beta"):
		return 9
	}
	return 15
}

// wanted is the APIService of a local group version.
func wanted(l Local) *v1.APIService {
	s := &v1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: l.Version + "." + l.Group, Labels: map[string]string{managedLabel: managedAtStart}},
		Spec:       v1.APIServiceSpec{Group: l.Group, Version: l.Version, VersionPriority: versionPriority(l.GroupVersion)},
	}
	switch priority, ok := groupPriorities[l.Group]; {
	case ok:
		s.Spec.GroupPriorityMinimum = priority
	case l.Custom:
		s.Labels[managedLabel] = managedAlways
		s.Spec.GroupPriorityMinimum, s.Spec.VersionPriority = customGroupPriority, customPriority
	default:
		s.Spec.GroupPriorityMinimum = otherGroupPriority
		if l.Group == replaceable {
			s.Labels = nil
		}
	}
	return s
}

// SetLocal tells what this server serves.
func (a *Aggregator) SetLocal(all []Local) {
	next := make(map[string]*v1.APIService, len(all))
	for _, l := range all {
		if l.Group != unlisted {
			s := wanted(l)
			next[s.Name] = s
		}
	}
	a.mu.Lock()
	old := a.local
	a.local = next
	var changed []string
	for name, s := range next {
		if was := old[name]; was == nil || !equality.Semantic.DeepEqual(was.Spec, s.Spec) {
			changed = append(changed, name)
		}
	}
	for name := range old {
		if next[name] == nil {
			changed = append(changed, name)
		}
	}
	a.mu.Unlock()
	for _, name := range changed {
		a.queue.Add(name)
	}
}

// step is what is done about one APIService.
type step int

const (
	leave step = iota
	create
	correct
	remove
)

// registration decides. want is nil where the server does not serve the group
// version, have where there is no APIService. settled: it has been seen to before;
// before: it was there when the server started.
func registration(want, have *v1.APIService, settled, before bool) step {
	kept := func(s *v1.APIService) string {
		if s == nil {
			return ""
		}
		return s.Labels[managedLabel]
	}
	switch {
	case want != nil && kept(want) != managedAlways && settled:
		return leave // what users do to it after the start is theirs
	case have == nil && want == nil:
		return leave
	case have == nil:
		return create
	case kept(have) != managedAtStart && kept(have) != managedAlways:
		return leave
	case kept(have) == managedAtStart && (settled || !before):
		return leave
	case want == nil:
		return remove
	case equality.Semantic.DeepEqual(have.Spec, want.Spec):
		return leave
	}
	return correct
}

// register makes, corrects or removes the APIService of a local group version.
func (a *Aggregator) register(ctx context.Context, name string) error {
	have, err := a.lister.Get(name)
	if err != nil {
		have = nil
	}
	a.mu.Lock()
	want, settled, before := a.local[name], a.settled[name], a.atStart[name]
	a.mu.Unlock()
	client := a.cfg.Client.ApiregistrationV1().APIServices()
	switch registration(want, have, settled, before) {
	case create:
		_, err = client.Create(ctx, want, metav1.CreateOptions{})
	case correct:
		next := have.DeepCopy()
		next.Spec = want.Spec
		_, err = client.Update(ctx, next, metav1.UpdateOptions{})
	case remove:
		err = client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.UID))})
	default:
		err = nil
	}
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if want != nil {
		a.settled[name] = true
	} else {
		delete(a.settled, name)
	}
	return nil
}

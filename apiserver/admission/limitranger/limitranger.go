// Package limitranger gives containers the defaults of the namespace's limit
// ranges, and holds pods and claims to their bounds.
package limitranger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/cache"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "LimitRanger"

// annotation tells which defaults were set.
const annotation = "kubernetes.io/limit-ranger"

// Where the cache knows no limit range of a namespace it may be behind, so the
// API is asked; that there is none holds for a while.
const (
	namespacesKept = 10000
	noneHolds      = 30 * time.Second
)

// Plugin applies limit ranges.
type Plugin struct {
	ranges corelisters.LimitRangeLister
	client kubernetes.Interface
	// none are the namespaces without a limit range.
	none *cache.LRUExpireCache
}

// New makes the plugin.
func New(ranges corelisters.LimitRangeLister, client kubernetes.Interface) *Plugin {
	return &Plugin{ranges: ranges, client: client, none: cache.NewLRUExpireCache(namespacesKept)}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

func (p *Plugin) inNamespace(ctx context.Context, ns string) ([]*v1.LimitRange, error) {
	known, err := p.ranges.LimitRanges(ns).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	out := slices.Clone(known)
	if len(out) == 0 {
		if out, err = p.live(ctx, ns); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b *v1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (p *Plugin) live(ctx context.Context, ns string) ([]*v1.LimitRange, error) {
	if _, none := p.none.Get(ns); none {
		return nil, nil
	}
	list, err := p.client.CoreV1().LimitRanges(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the limit ranges of namespace %s: %w", ns, err)
	}
	out := make([]*v1.LimitRange, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
	}
	if len(out) == 0 {
		p.none.Add(ns, true, noneHolds)
	}
	return out, nil
}

// Admit sets the defaults on new pods.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	ranges, err := p.inNamespace(ctx, a.Namespace)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		applyDefaults(pod, r)
	}
	return nil
}

// Validate checks the bounds of new pods and of claims, and of resized pods.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	var check func(*v1.LimitRange) []error
	switch obj := a.Object.(type) {
	case *v1.Pod:
		resize := a.Operation == admission.Update && a.Subresource == "resize"
		if !resize && (a.Operation != admission.Create || !a.Is("", "pods")) {
			return nil
		}
		check = func(r *v1.LimitRange) []error { return podErrors(r, obj) }
	case *v1.PersistentVolumeClaim:
		if !a.Is("", "persistentvolumeclaims") {
			return nil
		}
		check = func(r *v1.LimitRange) []error { return claimErrors(r, obj) }
	default:
		return nil
	}
	ranges, err := p.inNamespace(ctx, a.Namespace)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		if errs := check(r); len(errs) > 0 {
			return admission.Forbidden(a, utilerrors.NewAggregate(errs))
		}
	}
	return nil
}

// applyDefaults fills in container requests and limits.
func applyDefaults(pod *v1.Pod, r *v1.LimitRange) {
	requests, limits := v1.ResourceList{}, v1.ResourceList{}
	for _, l := range r.Spec.Limits {
		if l.Type != v1.LimitTypeContainer {
			continue
		}
		for k, q := range l.DefaultRequest {
			requests[k] = q
		}
		for k, q := range l.Default {
			limits[k] = q
		}
	}
	var notes []string
	fill := func(kind string, c *v1.Container) {
		for _, f := range []struct {
			what     string
			list     *v1.ResourceList
			defaults v1.ResourceList
		}{{"request", &c.Resources.Requests, requests}, {"limit", &c.Resources.Limits, limits}} {
			var set []string
			for k, q := range f.defaults {
				if _, has := (*f.list)[k]; !has {
					if *f.list == nil {
						*f.list = v1.ResourceList{}
					}
					(*f.list)[k] = q.DeepCopy()
					set = append(set, string(k))
				}
			}
			if len(set) > 0 {
				slices.Sort(set)
				notes = append(notes, strings.Join(set, ", ")+" "+f.what+" for "+kind+" "+c.Name)
			}
		}
	}
	for i := range pod.Spec.Containers {
		fill("container", &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		fill("init container", &pod.Spec.InitContainers[i])
	}
	if len(notes) > 0 {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[annotation] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
	}
}

func podErrors(r *v1.LimitRange, pod *v1.Pod) (errs []error) {
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		switch l.Type {
		case v1.LimitTypeContainer:
			for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for j := range list {
					errs = append(errs, bounds(l, list[j].Resources.Requests, list[j].Resources.Limits)...)
				}
			}
		case v1.LimitTypePod:
			requests, limits := totals(pod)
			errs = append(errs, bounds(l, requests, limits)...)
		}
	}
	return errs
}

func claimErrors(r *v1.LimitRange, c *v1.PersistentVolumeClaim) (errs []error) {
	for i := range r.Spec.Limits {
		l := &r.Spec.Limits[i]
		if l.Type != v1.LimitTypePersistentVolumeClaim {
			continue
		}
		for k, q := range l.Min {
			errs = appendErr(errs, minimum(l.Type, k, q, c.Spec.Resources.Requests, v1.ResourceList{}))
		}
		for k, q := range l.Max {
			errs = appendErr(errs, maxRequest(l.Type, k, q, c.Spec.Resources.Requests))
		}
	}
	return errs
}

func appendErr(errs []error, err error) []error {
	if err != nil {
		return append(errs, err)
	}
	return errs
}

func bounds(l *v1.LimitRangeItem, requests, limits v1.ResourceList) (errs []error) {
	for _, k := range slices.Sorted(maps.Keys(l.Min)) {
		errs = appendErr(errs, minimum(l.Type, k, l.Min[k], requests, limits))
	}
	for _, k := range slices.Sorted(maps.Keys(l.Max)) {
		errs = appendErr(errs, maximum(l.Type, k, l.Max[k], requests, limits))
	}
	for _, k := range slices.Sorted(maps.Keys(l.MaxLimitRequestRatio)) {
		errs = appendErr(errs, ratio(l.Type, k, l.MaxLimitRequestRatio[k], requests, limits))
	}
	return errs
}

func minimum(t v1.LimitType, k v1.ResourceName, want resource.Quantity, requests, limits v1.ResourceList) error {
	req, hasReq := requests[k]
	lim, hasLim := limits[k]
	switch {
	case !hasReq:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", k, t, want.String())
	case req.Cmp(want) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", k, t, want.String(), req.String())
	case hasLim && lim.Cmp(want) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", k, t, want.String(), lim.String())
	}
	return nil
}

func maximum(t v1.LimitType, k v1.ResourceName, want resource.Quantity, requests, limits v1.ResourceList) error {
	req, hasReq := requests[k]
	lim, hasLim := limits[k]
	switch {
	case !hasLim:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", k, t, want.String())
	case lim.Cmp(want) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", k, t, want.String(), lim.String())
	case hasReq && req.Cmp(want) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", k, t, want.String(), req.String())
	}
	return nil
}

func maxRequest(t v1.LimitType, k v1.ResourceName, want resource.Quantity, requests v1.ResourceList) error {
	req, ok := requests[k]
	if !ok {
		return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", k, t, want.String())
	}
	if req.Cmp(want) > 0 {
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", k, t, want.String(), req.String())
	}
	return nil
}

func ratio(t v1.LimitType, k v1.ResourceName, want resource.Quantity, requests, limits v1.ResourceList) error {
	req, hasReq := requests[k]
	lim, hasLim := limits[k]
	if !hasReq || req.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", k, t, want.String())
	}
	if !hasLim || lim.IsZero() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", k, t, want.String())
	}
	if got := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); got > want.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", k, t, want.String(), got)
	}
	return nil
}

// totals are the pod's requests and limits: the sum over containers, or where
// it is more, what an init container takes. A pod-level value stands for all.
func totals(pod *v1.Pod) (requests, limits v1.ResourceList) {
	sum := func(of func(*v1.ResourceRequirements) v1.ResourceList) v1.ResourceList {
		out := v1.ResourceList{}
		for i := range pod.Spec.Containers {
			for k, q := range of(&pod.Spec.Containers[i].Resources) {
				t := out[k]
				t.Add(q)
				out[k] = t
			}
		}
		for i := range pod.Spec.InitContainers {
			for k, q := range of(&pod.Spec.InitContainers[i].Resources) {
				if t, ok := out[k]; !ok || q.Cmp(t) > 0 {
					out[k] = q.DeepCopy()
				}
			}
		}
		if pod.Spec.Resources != nil {
			for k, q := range of(pod.Spec.Resources) {
				out[k] = q.DeepCopy()
			}
		}
		return out
	}
	return sum(func(r *v1.ResourceRequirements) v1.ResourceList { return r.Requests }), sum(func(r *v1.ResourceRequirements) v1.ResourceList { return r.Limits })
}

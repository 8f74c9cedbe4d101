// Package resourcequota refuses what would exceed a namespace's quota, and
// books what it lets pass in the quota's status before the object is written.
package resourcequota

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"

	"skiff/apiserver/admission"
	"skiff/quota"
)

// Name of the plugin.
const Name = "ResourceQuota"

// tries bounds how often a booking is decided anew because the quota changed.
const tries = 10

// Plugin books usage.
type Plugin struct {
	client     kubernetes.Interface
	quotas     corelisters.ResourceQuotaLister
	evaluators []quota.Evaluator
	limits     limits

	mu sync.Mutex
	// spaces serialize the bookings of a namespace in this process.
	spaces map[string]*space
}

// space is the state of one namespace while requests are at work on it.
type space struct {
	mu    sync.Mutex
	users int
}

// New makes the plugin from its configuration, which may be empty; now tells time.
func New(config []byte, client kubernetes.Interface, quotas corelisters.ResourceQuotaLister, classes resourcelisters.DeviceClassLister, now func() time.Time) (*Plugin, error) {
	limits, err := readLimits(config)
	if err != nil {
		return nil, err
	}
	return &Plugin{client: client, quotas: quotas, evaluators: quota.Evaluators(now, quota.ExtendedBy(classes)), limits: limits, spaces: map[string]*space{}}, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate decides, and books.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" || a.Object == nil {
		return nil
	}
	e := quota.For(p.evaluators, a.GroupResource())
	if a.Operation == admission.Update {
		if !e.CountsUpdate(a.Subresource) {
			return nil
		}
	} else if a.Subresource != "" {
		return nil
	}
	known, err := p.quotas.ResourceQuotas(a.Namespace).List(labels.Everything())
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("resolving quota: %w", err))
	}
	if err := p.limits.of(a.GroupResource()).check(a, e, known); err != nil || len(known) == 0 {
		return err
	}
	unlock := p.lock(a.Namespace)
	defer unlock()
	live := map[string]*v1.ResourceQuota{}
	for range tries {
		again, err := p.book(ctx, a, e, known, live)
		if err != nil || !again {
			return err
		}
	}
	return admission.Forbidden(a, fmt.Errorf("the quotas of namespace %s changed %d times while the request was checked: try again", a.Namespace, tries))
}

func (p *Plugin) lock(ns string) func() {
	p.mu.Lock()
	s := p.spaces[ns]
	if s == nil {
		s = &space{}
		p.spaces[ns] = s
	}
	s.users++
	p.mu.Unlock()
	s.mu.Lock()
	return func() {
		s.mu.Unlock()
		p.mu.Lock()
		if s.users--; s.users == 0 {
			delete(p.spaces, ns)
		}
		p.mu.Unlock()
	}
}

// book checks all quotas, then writes those that change. Again is true when a
// quota was not as it was known; the live one is then in live.
func (p *Plugin) book(ctx context.Context, a *admission.Attributes, e quota.Evaluator, known []*v1.ResourceQuota, live map[string]*v1.ResourceQuota) (again bool, err error) {
	type change struct {
		quota *v1.ResourceQuota
		delta v1.ResourceList
	}
	var changes []change
	for _, q := range known {
		if l := live[q.Name]; l != nil {
			q = l
		}
		next, delta, err := decide(a, e, q)
		if err != nil {
			return false, err
		}
		if next != nil {
			changes = append(changes, change{next, delta})
		}
	}
	if a.DryRun {
		return false, nil
	}
	for i, c := range changes {
		_, err := p.client.CoreV1().ResourceQuotas(a.Namespace).UpdateStatus(ctx, c.quota, metav1.UpdateOptions{})
		if err == nil {
			continue
		}
		// What was booked so far is given back before anything else.
		for _, done := range changes[:i] {
			p.giveBack(ctx, done.quota, done.delta)
		}
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return false, apierrors.NewInternalError(fmt.Errorf("booking quota %s: %w", c.quota.Name, err))
		}
		for _, q := range known {
			now, err := p.client.CoreV1().ResourceQuotas(a.Namespace).Get(ctx, q.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				now, err = &v1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: q.Name}}, nil
			}
			if err != nil {
				return false, apierrors.NewInternalError(fmt.Errorf("reading quota %s: %w", q.Name, err))
			}
			live[q.Name] = now
		}
		return true, nil
	}
	for _, c := range changes {
		a.Undo = append(a.Undo, func(ctx context.Context) { p.giveBack(ctx, c.quota, c.delta) })
	}
	return false, nil
}

// decide gives the quota with the request booked, nil when it does not concern it.
func decide(a *admission.Attributes, e quota.Evaluator, q *v1.ResourceQuota) (*v1.ResourceQuota, v1.ResourceList, error) {
	match, err := quota.Matches(e, q, a.Object)
	if err != nil {
		return nil, nil, admission.Forbidden(a, fmt.Errorf("error matching scopes of quota %s, err: %w", q.Name, err))
	}
	if !match {
		return nil, nil, nil
	}
	names := quota.Tracked(e, quota.Names(q.Status.Hard))
	if a.Operation == admission.Create || a.Subresource == "resize" {
		if err := e.Constrain(names, a.Object); err != nil {
			return nil, nil, admission.Forbidden(a, fmt.Errorf("failed quota: %s: %w", q.Name, err))
		}
	}
	// The controller has yet to count what the quota bounds.
	var unknown []v1.ResourceName
	for _, n := range quota.Tracked(e, quota.Names(q.Spec.Hard)) {
		if _, ok := q.Status.Used[n]; !ok {
			unknown = append(unknown, n)
		}
	}
	delta, err := e.Usage(a.Object)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	if a.Operation == admission.Update {
		if was, err := quota.Matches(e, q, a.OldObject); err == nil && was {
			before, err := e.Usage(a.OldObject)
			if err != nil {
				return nil, nil, apierrors.NewInternalError(err)
			}
			delta = quota.Subtract(delta, before)
		}
	}
	delta = positive(delta)
	if len(unknown) > 0 {
		concerned := false
		for _, n := range unknown {
			_, asks := delta[n]
			concerned = concerned || asks
		}
		if concerned {
			return nil, nil, admission.Forbidden(a, fmt.Errorf("status unknown for quota: %s, resources: %s", q.Name, join(unknown)))
		}
	}
	delta = quota.Mask(delta, names)
	if len(delta) == 0 {
		return nil, nil, nil
	}
	used := quota.Add(q.Status.Used, delta)
	if over := quota.Exceeded(quota.Mask(used, quota.Names(delta)), q.Status.Hard); len(over) > 0 {
		return nil, nil, admission.Forbidden(a, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			show(delta, over), show(q.Status.Used, over), show(q.Status.Hard, over)))
	}
	next := q.DeepCopy()
	next.Status.Used = used
	return next, delta, nil
}

// positive keeps what costs more than before.
func positive(l v1.ResourceList) v1.ResourceList {
	out := v1.ResourceList{}
	for n, q := range l {
		if q.Sign() > 0 {
			out[n] = q
		}
	}
	return out
}

func join(names []v1.ResourceName) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	slices.Sort(s)
	return strings.Join(s, ",")
}

// show lists the named amounts.
func show(l v1.ResourceList, names []v1.ResourceName) string {
	var parts []string
	for _, n := range slices.Sorted(slices.Values(names)) {
		q := l[n]
		parts = append(parts, string(n)+"="+q.String())
	}
	return strings.Join(parts, ",")
}

// giveBack takes a booking back. What it cannot reach, the quota controller
// counts anew in time.
func (p *Plugin) giveBack(ctx context.Context, q *v1.ResourceQuota, delta v1.ResourceList) {
	ctx = context.WithoutCancel(ctx)
	for range tries {
		now, err := p.client.CoreV1().ResourceQuotas(q.Namespace).Get(ctx, q.Name, metav1.GetOptions{})
		if err != nil {
			return
		}
		now.Status.Used = quota.Mask(quota.SubtractNonNegative(now.Status.Used, delta), quota.Names(now.Status.Used))
		if _, err = p.client.CoreV1().ResourceQuotas(q.Namespace).UpdateStatus(ctx, now, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			return
		}
	}
}

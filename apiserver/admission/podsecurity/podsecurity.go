// Package podsecurity holds pods to the Pod Security Standard of their namespace.
package podsecurity

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	psa "k8s.io/pod-security-admission/admission"
	"k8s.io/pod-security-admission/admission/api/load"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
)

// Name of the plugin.
const Name = "PodSecurity"

const auditPrefix = "pod-security.kubernetes.io/"

// Plugin checks pods.
type Plugin struct{ checks *psa.Admission }

// New makes the plugin from a PodSecurityConfiguration; empty is the default.
func New(config []byte, client kubernetes.Interface, namespaces corelisters.NamespaceLister, pods corelisters.PodLister) (*Plugin, error) {
	conf, err := load.LoadFromData(config)
	if err != nil {
		return nil, fmt.Errorf("reading the PodSecurity configuration: %w", err)
	}
	eval, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("making the Pod Security checks: %w", err)
	}
	c := &psa.Admission{Configuration: conf, Evaluator: eval, Metrics: silent{}, PodSpecExtractor: psa.DefaultPodSpecExtractor{},
		NamespaceGetter: getter{client, namespaces}, PodLister: lister{pods}}
	if err := c.CompleteConfiguration(); err != nil {
		return nil, fmt.Errorf("completing the PodSecurity configuration: %w", err)
	}
	if err := c.ValidateConfiguration(); err != nil {
		return nil, fmt.Errorf("checking the PodSecurity configuration: %w", err)
	}
	return &Plugin{checks: c}, nil
}

// silent records no metrics.
type silent struct{}

var _ metrics.Recorder = silent{}

func (silent) RecordEvaluation(metrics.Decision, psapi.LevelVersion, metrics.Mode, psapi.Attributes) {
}
func (silent) RecordExemption(psapi.Attributes)   {}
func (silent) RecordError(bool, psapi.Attributes) {}

type getter struct {
	client     kubernetes.Interface
	namespaces corelisters.NamespaceLister
}

func (g getter) GetNamespace(ctx context.Context, name string) (*v1.Namespace, error) {
	return lookup.Get(ctx, name, g.namespaces.Get, g.client.CoreV1().Namespaces().Get)
}

type lister struct{ pods corelisters.PodLister }

func (l lister) ListPods(_ context.Context, ns string) ([]*v1.Pod, error) {
	return l.pods.Pods(ns).List(labels.Everything())
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate checks namespaces, pods and what makes pods.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	gr := a.GroupResource()
	if gr != v1.Resource("namespaces") && gr != v1.Resource("pods") && !p.checks.PodSpecExtractor.HasPodSpec(gr) {
		return nil
	}
	user := ""
	if a.User != nil {
		user = a.User.GetName()
	}
	r := p.checks.Validate(ctx, &psapi.AttributesRecord{Name: a.Name, Namespace: a.Namespace, Kind: a.Kind, Resource: a.Resource, Subresource: a.Subresource,
		Operation: admissionv1.Operation(a.Operation), Object: a.Object, OldObject: a.OldObject, Username: user})
	if r == nil {
		return nil
	}
	if a.Warn != nil {
		for _, w := range r.Warnings {
			a.Warn(w)
		}
	}
	if a.Annotate != nil {
		for k, v := range r.AuditAnnotations {
			a.Annotate(auditPrefix+k, v)
		}
	}
	if r.Allowed {
		return nil
	}
	if r.Result == nil {
		return admission.Forbidden(a, errors.New("pod security denied the request"))
	}
	// The rules' reason is plain text; the answer names the object as others do.
	if r.Result.Reason == metav1.StatusReasonForbidden || r.Result.Code == http.StatusForbidden {
		refused := apierrors.NewForbidden(gr, a.ObjectName(), errors.New(r.Result.Message))
		if r.Result.Details != nil {
			// The library has made the whole status already.
			return &apierrors.StatusError{ErrStatus: *r.Result}
		}
		return refused
	}
	return &apierrors.StatusError{ErrStatus: *r.Result}
}

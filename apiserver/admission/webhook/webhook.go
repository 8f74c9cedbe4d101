package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
	"skiff/apiserver/servicedial"
	"skiff/apiserver/webhookclient"
	"skiff/cluster/tracing"
)

// Names of the plugins.
const (
	MutatingName   = "MutatingAdmissionWebhook"
	ValidatingName = "ValidatingAdmissionWebhook"
)

// Config is what both plugins need.
type Config struct {
	Client     kubernetes.Interface
	Informers  informers.SharedInformerFactory
	Authorizer authorizer.Authorizer
}

type core struct {
	cfg   Config
	calls *webhookclient.Clients
	cel   *conditions
	// span is the name of a call in traces.
	span string
	// mutates says that answers may bring patches.
	mutates bool
}

func newCore(c Config, kind string) (*core, error) {
	cond, err := newConditions(c.Authorizer)
	if err != nil {
		return nil, err
	}
	c.Informers.Core().V1().Namespaces().Informer()
	return &core{cfg: c, calls: webhookclient.New(servicedial.New(c.Informers).Dial), cel: cond, span: "Call " + kind + " webhook", mutates: kind == "mutating"}, nil
}

// hook is a webhook of either kind.
type hook struct {
	arv1.ValidatingWebhook
	configuration string
	reinvoke      bool
	// key tells hooks apart between passes.
	key string
}

// invocation is a hook with the versions in which it sees the request.
type invocation struct {
	hook
	resource schema.GroupVersionResource
	kind     schema.GroupVersionKind
}

// relevant gives the invocation when the hook wants to see the request, else nil.
func (c *core) relevant(ctx context.Context, h hook, a *admission.Attributes) (*invocation, error) {
	res, ok := Rules(h.Rules, ptr.Deref(h.MatchPolicy, arv1.Equivalent) == arv1.Equivalent, a)
	if !ok {
		return nil, nil
	}
	inv := &invocation{hook: h, resource: res, kind: a.Kind}
	if res.Version != a.Resource.Version {
		inv.kind = a.Resource.GroupResource().WithVersion(res.Version).GroupVersion().WithKind(a.Kind.Kind)
	}
	ok, err := c.namespaceMatches(ctx, h.NamespaceSelector, a)
	if err != nil || !ok {
		return nil, err
	}
	if ok, err = ObjectMatches(h.ObjectSelector, a); err != nil {
		return nil, apierrors.NewInternalError(err)
	} else if !ok {
		return nil, nil
	}
	if len(h.MatchConditions) > 0 {
		req, err := c.request(inv, a, "")
		if err != nil {
			return nil, err
		}
		values, err := celValues(req)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		ok, err := c.cel.match(ctx, h.MatchConditions, a, values)
		if err != nil {
			if ignores(&h) {
				return nil, nil
			}
			return nil, admission.Forbidden(a, err)
		}
		if !ok {
			return nil, nil
		}
	}
	return inv, nil
}

func celValues(req *admissionv1.AdmissionRequest) (map[string]any, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	// Integers stay integers, as in the objects' schemas.
	if err := unmarshal(data, &m); err != nil {
		return nil, err
	}
	out := map[string]any{"object": m["object"], "oldObject": m["oldObject"]}
	delete(m, "object")
	delete(m, "oldObject")
	out["request"] = m
	return out, nil
}

func (c *core) namespaceMatches(ctx context.Context, s *metav1.LabelSelector, a *admission.Attributes) (bool, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	if s == nil || sel.Empty() {
		return true, nil
	}
	if a.GroupResource() == (schema.GroupResource{Resource: "namespaces"}) {
		o := a.Object
		if a.Operation == admission.Delete || o == nil || a.Subresource != "" {
			o = a.OldObject
		}
		if o != nil {
			m, err := meta.Accessor(o)
			return err == nil && sel.Matches(labels.Set(m.GetLabels())), nil
		}
	}
	if a.Namespace == "" {
		return true, nil
	}
	ns, err := lookup.Get(ctx, a.Namespace, c.cfg.Informers.Core().V1().Namespaces().Lister().Get, c.cfg.Client.CoreV1().Namespaces().Get)
	if err != nil {
		if apierrors.IsNotFound(err) {
			return false, err
		}
		return false, apierrors.NewInternalError(err)
	}
	return sel.Matches(labels.Set(ns.Labels)), nil
}

func ignores(h *hook) bool { return ptr.Deref(h.FailurePolicy, arv1.Fail) == arv1.Ignore }

// encode gives the object in the version of the invocation.
func encode(a *admission.Attributes, obj runtime.Object, kind schema.GroupVersionKind) (runtime.RawExtension, error) {
	if obj == nil || reflect.ValueOf(obj).IsNil() {
		return runtime.RawExtension{}, nil
	}
	out, err := inVersion(a, obj, kind)
	if err != nil {
		return runtime.RawExtension{}, err
	}
	data, err := json.Marshal(out)
	return runtime.RawExtension{Raw: data}, err
}

func inVersion(a *admission.Attributes, obj runtime.Object, kind schema.GroupVersionKind) (runtime.Object, error) {
	out := obj.DeepCopyObject()
	if hub, err := hubKind(obj); err == nil && hub.Kind == kind.Kind && hub != kind && a.Convert != nil {
		if out, err = a.Convert(out, kind); err != nil {
			return nil, fmt.Errorf("converting to %s: %w", kind, err)
		}
	} else if err == nil {
		kind = hub
	}
	out.GetObjectKind().SetGroupVersionKind(kind)
	return out, nil
}

// hubKind is the kind of the stored type.
func hubKind(obj runtime.Object) (schema.GroupVersionKind, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u.GroupVersionKind(), nil
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	return kinds[0], nil
}

// request is what a hook is sent.
func (c *core) request(inv *invocation, a *admission.Attributes, uid types.UID) (*admissionv1.AdmissionRequest, error) {
	obj, err := encode(a, a.Object, inv.kind)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	old, err := encode(a, a.OldObject, inv.kind)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	r := &admissionv1.AdmissionRequest{
		UID: uid, Kind: metav1.GroupVersionKind(inv.kind), Resource: metav1.GroupVersionResource(inv.resource), SubResource: a.Subresource,
		RequestKind: ptr.To(metav1.GroupVersionKind(a.Kind)), RequestResource: ptr.To(metav1.GroupVersionResource(a.Resource)), RequestSubResource: a.Subresource,
		Name: a.Name, Namespace: a.Namespace, Operation: admissionv1.Operation(a.Operation), Object: obj, OldObject: old, DryRun: &a.DryRun,
	}
	if a.Collected {
		r.Name = ""
	}
	if a.GroupResource() == (schema.GroupResource{Resource: "namespaces"}) {
		r.Namespace = r.Name // a namespace is in itself
	}
	if a.Options != nil && !reflect.ValueOf(a.Options).IsNil() {
		o := a.Options.DeepCopyObject()
		if o.GetObjectKind().GroupVersionKind().Kind == "" {
			o.GetObjectKind().SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind(reflect.TypeOf(o).Elem().Name()))
		}
		if r.Options.Raw, err = json.Marshal(o); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
	}
	if u := a.User; u != nil {
		r.UserInfo = authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups(), Extra: map[string]authenticationv1.ExtraValue{}}
		for k, v := range u.GetExtra() {
			r.UserInfo.Extra[k] = v
		}
	}
	return r, nil
}

// errCall marks a failure that the failure policy decides on.
type errCall struct{ error }

func (e errCall) Unwrap() error { return e.error }

// observed is ask, timed.
func (c *core) observed(ctx context.Context, phase admission.Phase, inv *invocation, a *admission.Attributes) (*admissionv1.AdmissionResponse, error) {
	start := time.Now()
	resp, err := c.ask(ctx, inv, a)
	if a.Observer != nil {
		a.Observer.Webhook(inv.Name, phase, a.Operation, time.Since(start), err != nil)
	}
	return resp, err
}

// ask calls one hook. A refusal is an API status, a failed call an errCall.
func (c *core) ask(ctx context.Context, inv *invocation, a *admission.Attributes) (*admissionv1.AdmissionResponse, error) {
	if a.DryRun {
		if s := ptr.Deref(inv.SideEffects, arv1.SideEffectClassUnknown); s != arv1.SideEffectClassNone && s != arv1.SideEffectClassNoneOnDryRun {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", inv.Name))
		}
	}
	version, err := reviewVersion(inv.AdmissionReviewVersions)
	if err != nil {
		return nil, errCall{err}
	}
	req, err := c.request(inv, a, types.UID(uuid.NewString()))
	if err != nil {
		return nil, err
	}
	review := &admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/" + version, Kind: "AdmissionReview"}, Request: req}
	ctx, end := tracing.Start(ctx, c.span, attribute.String("configuration", inv.configuration), attribute.String("webhook", inv.Name),
		attribute.String("resource", inv.resource.GroupResource().String()), attribute.String("subresource", a.Subresource), attribute.String("operation", string(a.Operation)))
	resp, err := call(ctx, c.calls, &inv.ClientConfig, time.Duration(ptr.Deref(inv.TimeoutSeconds, 10))*time.Second, review, c.mutates)
	end(err)
	if err != nil {
		return nil, errCall{err}
	}
	if a.Annotate != nil {
		for _, k := range slices.Sorted(maps.Keys(resp.AuditAnnotations)) {
			a.Annotate(inv.Name+"/"+k, resp.AuditAnnotations[k])
		}
	}
	if a.Warn != nil {
		for _, w := range resp.Warnings {
			a.Warn(w)
		}
	}
	if !resp.Allowed {
		return nil, denied(inv.Name, resp.Result)
	}
	return resp, nil
}

// denied is the answer to a refused request.
func denied(name string, r *metav1.Status) error {
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	if r == nil {
		r = &metav1.Status{}
	}
	if r.Code < http.StatusBadRequest {
		r.Code = http.StatusBadRequest
	}
	if r.Status == "" || r.Status == metav1.StatusSuccess {
		r.Status = metav1.StatusFailure
	}
	switch {
	case r.Message != "":
		r.Message = by + ": " + r.Message
	case r.Reason != "":
		r.Message = by + ": " + string(r.Reason)
	default:
		r.Message = by + " without explanation"
	}
	return &apierrors.StatusError{ErrStatus: *r}
}

// failed applies the failure policy; nil lets the request go on. The annotation says
// that it did so unasked.
func failed(inv *invocation, a *admission.Attributes, annotation string, err error) error {
	var call errCall
	if !errors.As(err, &call) {
		return err
	}
	if ignores(&inv.hook) {
		klog.ErrorS(call.error, "Failed calling a webhook, failing open", "webhook", inv.Name)
		if a.Annotate != nil {
			a.Annotate(annotation, inv.Name)
		}
		return nil
	}
	return apierrors.NewInternalError(fmt.Errorf("failed calling webhook %q: %w", inv.Name, call.error))
}

func sorted[T any](in []T, name func(T) string) []T {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return out
}

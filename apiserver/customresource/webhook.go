package customresource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"skiff/apiserver/webhookclient"
)

// conversionTimeout bounds one conversion, as upstream's clients of webhooks.
const conversionTimeout = 30 * time.Second

// webhook converts by asking a server.
type webhook struct {
	clients *webhookclient.Clients
	target  webhookclient.Target
	// review is the version of ConversionReview that both sides know.
	review string
}

func newWebhook(crd *v1.CustomResourceDefinition, dial webhookclient.Dial) (*webhook, error) {
	conf := crd.Spec.Conversion.Webhook
	if conf == nil || conf.ClientConfig == nil {
		return nil, errors.New("spec.conversion.webhook.clientConfig is missing")
	}
	w := &webhook{clients: webhookclient.New(dial), target: webhookclient.Target{URL: conf.ClientConfig.URL, CABundle: conf.ClientConfig.CABundle}}
	for _, version := range conf.ConversionReviewVersions {
		if version == "v1" || version == "v1beta1" {
			w.review = version
			break
		}
	}
	if w.review == "" {
		return nil, errors.New("no supported conversion review versions")
	}
	if s := conf.ClientConfig.Service; s != nil {
		w.target.Service = &webhookclient.Service{Namespace: s.Namespace, Name: s.Name, Path: s.Path, Port: s.Port}
	}
	if err := w.clients.Check(w.target); err != nil {
		return nil, fmt.Errorf("spec.conversion.webhook.clientConfig: %w", err)
	}
	return w, nil
}

func (w *webhook) close() { w.clients.Close() }

func (w *webhook) convert(in *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error) {
	out, err := w.convertAll([]*unstructured.Unstructured{in}, to)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// convertAll asks once for all objects, which are of one kind.
func (w *webhook) convertAll(in []*unstructured.Unstructured, to schema.GroupVersion) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, len(in))
	var raws []runtime.RawExtension
	var at []int // which of in a raw is
	for i, u := range in {
		// An object with nothing in it is the same in every version.
		if len(u.Object) == 2 && u.GetKind() != "" && u.GetAPIVersion() != "" {
			out[i], _ = sameShape{}.convert(u, to) // it never fails
			continue
		}
		raw, err := json.Marshal(u.Object)
		if err != nil {
			return nil, err
		}
		raws, at = append(raws, runtime.RawExtension{Raw: raw}), append(at, i)
	}
	if len(raws) == 0 {
		return out, nil
	}
	gvk := in[at[0]].GroupVersionKind()
	converted, err := w.ask(raws, to)
	if err != nil {
		return nil, fmt.Errorf("conversion webhook for %v failed: %w", gvk, err)
	}
	if len(converted) != len(raws) {
		return nil, fmt.Errorf("conversion webhook for %v returned %d objects, expected %d", gvk, len(converted), len(raws))
	}
	for n, i := range at {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(converted[n].Raw); err != nil {
			return nil, fmt.Errorf("conversion webhook for %v returned invalid converted object at index %d: %w", gvk, n, err)
		}
		if err := accept(n, in[i], u, to); err != nil {
			return nil, err
		}
		out[i] = u
	}
	return out, nil
}

// ask sends objects and returns what the webhook makes of them.
func (w *webhook) ask(objects []runtime.RawExtension, to schema.GroupVersion) ([]runtime.RawExtension, error) {
	id := uuid.NewUUID()
	if w.review == "v1beta1" {
		review := v1beta1.ConversionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "ConversionReview"},
			Request:  &v1beta1.ConversionRequest{UID: id, DesiredAPIVersion: to.String(), Objects: objects},
		}
		var answer v1beta1.ConversionReview
		if err := w.post(&review, &answer); err != nil {
			return nil, err
		}
		if answer.Response == nil {
			return nil, errors.New("no response provided")
		}
		return answer.Response.ConvertedObjects, succeeded(answer.Response.Result)
	}
	review := v1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: v1.SchemeGroupVersion.String(), Kind: "ConversionReview"},
		Request:  &v1.ConversionRequest{UID: id, DesiredAPIVersion: to.String(), Objects: objects},
	}
	var answer v1.ConversionReview
	if err := w.post(&review, &answer); err != nil {
		return nil, err
	}
	return reviewed(&answer, id)
}

func reviewed(answer *v1.ConversionReview, id types.UID) ([]runtime.RawExtension, error) {
	want := v1.SchemeGroupVersion.WithKind("ConversionReview")
	switch {
	case answer.GroupVersionKind() != want:
		return nil, fmt.Errorf("expected webhook response of %v, got %v", want, answer.GroupVersionKind())
	case answer.Response == nil:
		return nil, errors.New("no response provided")
	case answer.Response.UID != id:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", id, answer.Response.UID)
	}
	return answer.Response.ConvertedObjects, succeeded(answer.Response.Result)
}

func succeeded(s metav1.Status) error {
	switch {
	case s.Status == metav1.StatusSuccess:
		return nil
	case s.Message != "":
		return errors.New(s.Message)
	}
	return fmt.Errorf("response.result.status was '%s', not 'Success'", s.Status)
}

func (w *webhook) post(in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), conversionTimeout)
	defer cancel()
	return w.clients.Post(ctx, w.target, nil, in, out)
}

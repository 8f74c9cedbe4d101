package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"skiff/apiserver/webhookclient"
)

// reviewVersion is the first of a webhook's versions that can be spoken.
func reviewVersion(accepted []string) (string, error) {
	for _, v := range accepted {
		if v == "v1" || v == "v1beta1" {
			return v, nil
		}
	}
	return "", errors.New("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
}

// call posts a review and returns the checked response. The two versions have one
// JSON form.
func call(ctx context.Context, clients *webhookclient.Clients, cc *arv1.WebhookClientConfig, timeout time.Duration, review *admissionv1.AdmissionReview, mutates bool) (*admissionv1.AdmissionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	target := webhookclient.Target{URL: cc.URL, CABundle: cc.CABundle}
	if s := cc.Service; s != nil {
		target.Service = &webhookclient.Service{Namespace: s.Namespace, Name: s.Name, Path: s.Path, Port: s.Port}
	}
	var out admissionv1.AdmissionReview
	if err := clients.Post(ctx, target, url.Values{"timeout": {timeout.String()}}, review, &out); err != nil {
		return nil, fmt.Errorf("failed to call webhook: %w", err)
	}
	if got := schema.FromAPIVersionAndKind(out.APIVersion, out.Kind); !got.Empty() && (out.APIVersion != review.APIVersion || out.Kind != review.Kind) {
		return nil, fmt.Errorf("failed to call webhook: %w", otherKind(got, review))
	}
	if err := checked(&out, review, mutates); err != nil {
		return nil, fmt.Errorf("received invalid webhook response: %w", err)
	}
	return out.Response, nil
}

// otherKind says that an answer is of a kind that is not a review, or of the review's
// other version.
func otherKind(got schema.GroupVersionKind, review *admissionv1.AdmissionReview) error {
	asked := schema.FromAPIVersionAndKind(review.APIVersion, review.Kind)
	if got.Kind == asked.Kind && got.Group == asked.Group && (got.Version == "v1" || got.Version == "v1beta1") {
		return fmt.Errorf("converting (%s.AdmissionReview) to (%s.AdmissionReview): unknown conversion", got.Version, asked.Version)
	}
	return runtime.NewNotRegisteredErrForKind("pkg/runtime/scheme.go:111", got)
}

// checked says what is wrong with an answer. What it must hold was asked for only
// since v1.
func checked(out, review *admissionv1.AdmissionReview, mutates bool) error {
	r := out.Response
	if r == nil {
		return errors.New("webhook response was absent")
	}
	if review.APIVersion == admissionv1beta1.SchemeGroupVersion.String() {
		if !mutates {
			r.Patch = nil
		} else if len(r.Patch) > 0 {
			r.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		}
		return nil
	}
	switch got := schema.FromAPIVersionAndKind(out.APIVersion, out.Kind); {
	case r.UID != review.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case got.Empty():
		return fmt.Errorf("expected webhook response of %s, Kind=%s, got %s", review.APIVersion, review.Kind, got)
	case !mutates && len(r.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !mutates && r.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	}
	return nil
}

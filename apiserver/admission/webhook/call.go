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
// JSON form; what answers must hold was asked for only since v1.
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
	r := out.Response
	if r == nil {
		return nil, errors.New("webhook response was absent")
	}
	if review.APIVersion == admissionv1beta1.SchemeGroupVersion.String() {
		if !mutates {
			r.Patch = nil
		} else if len(r.Patch) > 0 {
			r.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		}
		return r, nil
	}
	switch {
	case r.UID != review.Request.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case out.APIVersion != review.APIVersion || out.Kind != review.Kind:
		return nil, fmt.Errorf("expected webhook response of %s, Kind=%s, got %s, Kind=%s", review.APIVersion, review.Kind, out.APIVersion, out.Kind)
	case !mutates && len(r.Patch) > 0:
		return nil, errors.New("validating webhook may not return response.patch")
	case !mutates && r.PatchType != nil:
		return nil, errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return nil, errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return nil, errors.New("webhook returned response.patchType but not response.patch")
	}
	return r, nil
}

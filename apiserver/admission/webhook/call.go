package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"

	"skiff/apiserver/webhookclient"
)

// call posts a review and returns the checked response.
func call(ctx context.Context, clients *webhookclient.Clients, cc *arv1.WebhookClientConfig, timeout time.Duration, review *admissionv1.AdmissionReview) (*admissionv1.AdmissionResponse, error) {
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
	if out.APIVersion != review.APIVersion || out.Kind != review.Kind {
		return nil, fmt.Errorf("expected webhook response of %s, Kind=%s, got %s, Kind=%s", review.APIVersion, review.Kind, out.APIVersion, out.Kind)
	}
	r := out.Response
	switch {
	case r == nil:
		return nil, errors.New("webhook response was absent")
	case r.UID != review.Request.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case len(r.Patch) > 0 && r.PatchType == nil:
		return nil, errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return nil, errors.New("webhook returned response.patchType but not response.patch")
	}
	return r, nil
}

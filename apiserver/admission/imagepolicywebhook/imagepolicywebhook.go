// Package imagepolicywebhook asks a service whether the images of a pod may run.
package imagepolicywebhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/api/imagepolicy/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/admission"
	"skiff/apiserver/authn/webhookclient"
)

// Name of the plugin.
const Name = "ImagePolicyWebhook"

const (
	// forService marks the annotations of a pod that the service is shown.
	forService = ".image-policy.k8s.io/"
	// auditPrefix begins what is recorded of a request.
	auditPrefix = "imagepolicywebhook.image-policy.k8s.io/"
	failedOpen  = "failed-open"

	allowTTL, denyTTL = 5 * time.Minute, 30 * time.Second
	shortest, longest = time.Second, 30 * time.Minute
	patience          = 30 * time.Second
	remembered        = 1024
)

// Plugin asks.
type Plugin struct {
	client          *webhookclient.Client
	allowed, denied time.Duration
	defaultAllow    bool
	answers         *cache.LRUExpireCache
}

// New makes the plugin from its configuration, which must name a kubeconfig.
func New(config []byte) (*Plugin, error) {
	var c struct {
		ImagePolicy struct {
			KubeConfigFile string `json:"kubeConfigFile"`
			AllowTTL       int64  `json:"allowTTL"`
			DenyTTL        int64  `json:"denyTTL"`
			RetryBackoff   int64  `json:"retryBackoff"`
			DefaultAllow   bool   `json:"defaultAllow"`
		} `json:"imagePolicy"`
	}
	if err := yaml.UnmarshalStrict(config, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	p := &Plugin{defaultAllow: c.ImagePolicy.DefaultAllow, answers: cache.NewLRUExpireCache(remembered)}
	var err error
	if p.allowed, err = keptFor("allowTTL", c.ImagePolicy.AllowTTL, allowTTL); err != nil {
		return nil, err
	}
	if p.denied, err = keptFor("denyTTL", c.ImagePolicy.DenyTTL, denyTTL); err != nil {
		return nil, err
	}
	file := c.ImagePolicy.KubeConfigFile
	if file == "" {
		return nil, errors.New("imagePolicy.kubeConfigFile: Required value: give it in the file of --admission-control-config-file")
	}
	access, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("imagePolicy.kubeConfigFile %s: %w", file, err)
	}
	if p.client, err = webhookclient.New(access, patience); err != nil {
		return nil, fmt.Errorf("imagePolicy.kubeConfigFile %s: %w", file, err)
	}
	return p, nil
}

// keptFor reads how many seconds an answer holds: 0 is the default, -1 not at all.
func keptFor(name string, seconds int64, otherwise time.Duration) (time.Duration, error) {
	d := time.Duration(seconds) * time.Second
	switch {
	case seconds == 0:
		return otherwise, nil
	case seconds == -1:
		return 0, nil
	case d < shortest || d > longest:
		return 0, fmt.Errorf("imagePolicy.%s %d: must be between %v and %v, or -1 for none", name, seconds, shortest, longest)
	}
	return d, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate asks about the pod's images; a new ephemeral container's too.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || a.Resource.Group != "" || a.Resource.Resource != "pods" || a.Subresource != "" && a.Subresource != "ephemeralcontainers" {
		return nil
	}
	review := &v1alpha1.ImageReview{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ImageReview"},
		Spec:     v1alpha1.ImageReviewSpec{Namespace: a.Namespace},
	}
	if a.Subresource == "" {
		for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				review.Spec.Containers = append(review.Spec.Containers, v1alpha1.ImageReviewContainerSpec{Image: list[i].Image})
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		review.Spec.Containers = append(review.Spec.Containers, v1alpha1.ImageReviewContainerSpec{Image: pod.Spec.EphemeralContainers[i].Image})
	}
	for k, value := range pod.Annotations {
		if strings.Contains(k, forService) {
			if review.Spec.Annotations == nil {
				review.Spec.Annotations = map[string]string{}
			}
			review.Spec.Annotations[k] = value
		}
	}
	status, err := p.ask(ctx, review)
	if err != nil {
		if p.defaultAllow {
			annotate(a, failedOpen, "true")
			return nil
		}
		return admission.Forbidden(a, err)
	}
	for k, value := range status.AuditAnnotations {
		annotate(a, k, value)
	}
	switch {
	case status.Allowed:
		return nil
	case status.Reason != "":
		return admission.Forbidden(a, fmt.Errorf("image policy webhook backend denied one or more images: %s", status.Reason))
	}
	return admission.Forbidden(a, errors.New("one or more images rejected by webhook backend"))
}

func annotate(a *admission.Attributes, key, value string) {
	if a.Annotate != nil {
		a.Annotate(auditPrefix+key, value)
	}
}

// ask is the service's answer, or one that still holds.
func (p *Plugin) ask(ctx context.Context, review *v1alpha1.ImageReview) (v1alpha1.ImageReviewStatus, error) {
	key, err := json.Marshal(review.Spec)
	if err != nil {
		return v1alpha1.ImageReviewStatus{}, err
	}
	if known, ok := p.answers.Get(string(key)); ok {
		return known.(v1alpha1.ImageReviewStatus), nil
	}
	var answer v1alpha1.ImageReview
	if err := p.client.Post(ctx, review, &answer); err != nil {
		return v1alpha1.ImageReviewStatus{}, err
	}
	ttl := p.denied
	if answer.Status.Allowed {
		ttl = p.allowed
	}
	if ttl > 0 {
		p.answers.Add(string(key), answer.Status, ttl)
	}
	return answer.Status, nil
}

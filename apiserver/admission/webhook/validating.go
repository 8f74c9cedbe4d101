package webhook

import (
	"context"
	"fmt"
	"sync"

	arv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"skiff/apiserver/admission"
)

// Validating asks all validating webhooks at once.
type Validating struct{ *core }

// NewValidating makes the plugin.
func NewValidating(c Config) (*Validating, error) {
	k, err := newCore(c, "validating")
	c.Informers.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer()
	return &Validating{k}, err
}

// Name is upstream's.
func (*Validating) Name() string { return ValidatingName }

// Handles all operations.
func (*Validating) Handles(admission.Operation) bool { return true }

// Validate refuses when any webhook does.
func (p *Validating) Validate(ctx context.Context, a *admission.Attributes) error {
	if exempt(a.GroupResource()) {
		return nil
	}
	all, err := p.cfg.Informers.Admissionregistration().V1().ValidatingWebhookConfigurations().Lister().List(labels.Everything())
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	var asks []*invocation
	for _, conf := range sorted(all, func(c *arv1.ValidatingWebhookConfiguration) string { return c.Name }) {
		for _, w := range conf.Webhooks {
			inv, err := p.relevant(ctx, hook{ValidatingWebhook: w, configuration: conf.Name}, a)
			if err != nil {
				return err
			}
			if inv != nil {
				asks = append(asks, inv)
			}
		}
	}
	if len(asks) == 0 {
		return nil
	}
	results := make([]error, len(asks))
	var wg sync.WaitGroup
	for i, inv := range asks {
		wg.Go(func() {
			_, err := p.observed(ctx, admission.PhaseValidate, inv, a)
			results[i] = failed(inv, a, fmt.Sprintf("%svalidating.webhook.admission.k8s.io/round_0_index_%d", failedOpenKey, i), err)
		})
	}
	wg.Wait()
	for _, err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

package webhook

import (
	"encoding/json"

	admissionv1 "k8s.io/api/admission/v1"

	"skiff/apiserver/admission"
)

// How the keys of audit annotations of mutating webhooks begin.
const (
	mutationKey   = "mutation.webhook.admission.k8s.io/"
	patchKey      = "patch.webhook.admission.k8s.io/"
	failedOpenKey = "failed-open."
)

// annotations tell the audit record what a mutating webhook did.
type annotations struct{ round, configuration, webhook string }

func (m annotations) mutated(a *admission.Attributes, did bool) {
	if a.Annotate == nil {
		return
	}
	a.Annotate(mutationKey+m.round, marshal(struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{m.configuration, m.webhook, did}))
}

// patched shows the patch, which says what is in the object.
func (m annotations) patched(a *admission.Attributes, p json.RawMessage) {
	if a.AnnotateBody == nil {
		return
	}
	a.AnnotateBody(patchKey+m.round, func() string {
		return marshal(struct {
			Configuration string          `json:"configuration"`
			Webhook       string          `json:"webhook"`
			Patch         json.RawMessage `json:"patch,omitempty"`
			PatchType     string          `json:"patchType,omitempty"`
		}{m.configuration, m.webhook, p, string(admissionv1.PatchTypeJSONPatch)})
	})
}

// marshal is for values that always have a form in JSON.
func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

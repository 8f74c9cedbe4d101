package apiserver

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skiff/apiserver/admission"
)

// admissionMetrics are those of admission, by Kubernetes' names. It is an
// admission.Observer.
type admissionMetrics struct {
	step, plugin, webhook *prometheus.HistogramVec
	// known spares the look for labels, of which every write has dozens.
	known sync.Map // of admitted to prometheus.Observer
}

type admitted struct {
	name     string
	phase    admission.Phase
	op       admission.Operation
	rejected bool
}

func newAdmissionMetrics(r prometheus.Registerer) *admissionMetrics {
	buckets := []float64{0.005, 0.025, 0.1, 0.5, 1.0, 2.5}
	m := &admissionMetrics{
		step:    histogram("apiserver_admission_step_admission_duration_seconds", "How long a phase of admission took.", buckets, "type", "operation", "rejected"),
		plugin:  histogram("apiserver_admission_controller_admission_duration_seconds", "How long an admission plugin took.", buckets, "name", "type", "operation", "rejected"),
		webhook: histogram("apiserver_admission_webhook_admission_duration_seconds", "How long an admission webhook took.", append(buckets, 10, 25), "name", "type", "operation", "rejected"),
	}
	r.MustRegister(m.step, m.plugin, m.webhook)
	return m
}

// Step implements admission.Observer.
func (m *admissionMetrics) Step(phase admission.Phase, op admission.Operation, took time.Duration, rejected bool) {
	m.step.WithLabelValues(string(phase), string(op), strconv.FormatBool(rejected)).Observe(took.Seconds())
}

// Plugin implements admission.Observer.
func (m *admissionMetrics) Plugin(name string, phase admission.Phase, op admission.Operation, took time.Duration, rejected bool) {
	key := admitted{name, phase, op, rejected}
	o, ok := m.known.Load(key)
	if !ok {
		o, _ = m.known.LoadOrStore(key, m.plugin.WithLabelValues(name, string(phase), string(op), strconv.FormatBool(rejected)))
	}
	o.(prometheus.Observer).Observe(took.Seconds())
}

// Webhook implements admission.Observer.
func (m *admissionMetrics) Webhook(name string, phase admission.Phase, op admission.Operation, took time.Duration, rejected bool) {
	m.webhook.WithLabelValues(name, string(phase), string(op), strconv.FormatBool(rejected)).Observe(took.Seconds())
}

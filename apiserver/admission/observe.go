package admission

import "time"

// Phase is one of the two halves of admission.
type Phase string

// The phases, as metrics name them.
const (
	PhaseAdmit    Phase = "admit"
	PhaseValidate Phase = "validate"
)

// Observer is told how long admission takes, and whether it refuses.
type Observer interface {
	// Step is a phase with all of its plugins.
	Step(phase Phase, op Operation, took time.Duration, rejected bool)
	// Plugin is one of them.
	Plugin(name string, phase Phase, op Operation, took time.Duration, rejected bool)
	// Webhook is one webhook that was asked.
	Webhook(name string, phase Phase, op Operation, took time.Duration, rejected bool)
}

package framework

import (
	"errors"
	"slices"
	"strings"
)

// Code says what an extension point decided.
type Code int

const (
	// Success lets the pod pass. A nil *Status is Success.
	Success Code = iota
	// Error is an internal fault: the cycle ends and the pod is tried again.
	Error
	// Unschedulable means that the pod does not fit now; preemption may help.
	Unschedulable
	// UnschedulableAndUnresolvable means that preemption cannot help.
	UnschedulableAndUnresolvable
	// Wait is Permit's answer to hold the pod back.
	Wait
	// Skip leaves the plugin (PreFilter, PreScore, Bind, PreBindPreFlight) out of this cycle.
	Skip
	// Pending means that scheduling is done, and something else has to happen first.
	Pending
)

// String gives the name that metrics and logs use.
func (c Code) String() string {
	names := [...]string{"Success", "Error", "Unschedulable", "UnschedulableAndUnresolvable", "Wait", "Skip", "Pending"}
	if int(c) < 0 || int(c) >= len(names) {
		return "Unknown"
	}
	return names[c]
}

// Status is the answer of an extension point. The nil value is Success.
// A Status is not changed once returned, except by the runner, which notes the plugin.
type Status struct {
	code    Code
	reasons []string
	err     error
	plugin  string
}

// NewStatus makes a status with the given reasons. An Error status gets an error from its reasons.
func NewStatus(code Code, reasons ...string) *Status {
	s := &Status{code: code, reasons: reasons}
	if code == Error {
		s.err = errors.New(strings.Join(reasons, ", "))
	}
	return s
}

// AsStatus wraps an error. A nil error is Success.
func AsStatus(err error) *Status {
	if err == nil {
		return nil
	}
	return &Status{code: Error, reasons: []string{err.Error()}, err: err}
}

// Code is the decision.
func (s *Status) Code() Code {
	if s == nil {
		return Success
	}
	return s.code
}

// Reasons are the human-readable grounds, in the plugin's order.
func (s *Status) Reasons() []string {
	if s == nil {
		return nil
	}
	return s.reasons
}

// Message joins the reasons.
func (s *Status) Message() string { return strings.Join(s.Reasons(), ", ") }

// Plugin names the plugin that answered, empty when unknown.
func (s *Status) Plugin() string {
	if s == nil {
		return ""
	}
	return s.plugin
}

// WithPlugin notes the plugin and returns s.
func (s *Status) WithPlugin(name string) *Status {
	if s != nil {
		s.plugin = name
	}
	return s
}

// IsSuccess is true for Success.
func (s *Status) IsSuccess() bool { return s.Code() == Success }

// IsSkip is true for Skip.
func (s *Status) IsSkip() bool { return s.Code() == Skip }

// IsWait is true for Wait.
func (s *Status) IsWait() bool { return s.Code() == Wait }

// IsRejected is true when the pod cannot be placed for a reason other than a fault.
func (s *Status) IsRejected() bool {
	c := s.Code()
	return c == Unschedulable || c == UnschedulableAndUnresolvable || c == Pending
}

// AsError is the status as an error, nil for Success, Wait and Skip.
func (s *Status) AsError() error {
	if s.IsSuccess() || s.IsWait() || s.IsSkip() {
		return nil
	}
	if s.err != nil {
		return s.err
	}
	return errors.New(s.Message())
}

// Equal compares the visible parts; for cmp.Diff in tests.
func (s *Status) Equal(o *Status) bool {
	return s.Code() == o.Code() && slices.Equal(s.Reasons(), o.Reasons()) && s.Plugin() == o.Plugin()
}

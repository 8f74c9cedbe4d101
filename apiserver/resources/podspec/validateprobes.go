package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func (v *validator) probes(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, kind := range []struct {
		name  string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}} {
		name, p := kind.name, kind.probe
		if p == nil {
			continue
		}
		at := at.Child(name)
		errs = append(errs, probe(p, at)...)
		if name != "readinessProbe" && p.SuccessThreshold != 1 {
			errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
		}
		if g := p.TerminationGracePeriodSeconds; g != nil {
			if name == "readinessProbe" {
				errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must not be set for readinessProbes"))
			}
			if *g <= 0 {
				errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
			}
		}
	}
	return errs
}

func probe(p *corev1.Probe, at *field.Path) field.ErrorList {
	errs := handler(p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC != nil, nil, at)
	if p.GRPC != nil && p.Exec == nil && p.HTTPGet == nil && p.TCPSocket == nil {
		errs = append(errs, portNumber(int(p.GRPC.Port), at.Child("grpc", "port"))...)
	}
	for _, f := range []struct {
		name string
		n    int32
	}{{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold}} {
		errs = append(errs, NonNegativeInt(f.n, at.Child(f.name))...)
	}
	return errs
}

func (v *validator) lifecycleHandler(h *corev1.LifecycleHandler, at *field.Path) field.ErrorList {
	errs := handler(h.Exec, h.HTTPGet, h.TCPSocket, false, h.Sleep, at)
	if h.Sleep != nil {
		grace := ptr.Deref(v.spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
		if n := h.Sleep.Seconds; n < 0 || n > grace {
			errs = append(errs, field.Invalid(at.Child("sleep"), n, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace)))
		}
	}
	return errs
}

func handler(exec *corev1.ExecAction, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, grpc bool, sleep *corev1.SleepAction, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	count := func(set bool, name string) bool {
		if !set {
			return false
		}
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 handler type"))
			return false
		}
		return true
	}
	if count(exec != nil, "exec") && len(exec.Command) == 0 {
		errs = append(errs, field.Required(at.Child("exec", "command"), ""))
	}
	if count(get != nil, "httpGet") {
		at := at.Child("httpGet")
		if get.Path == "" {
			errs = append(errs, field.Required(at.Child("path"), ""))
		}
		errs = append(errs, portOrName(get.Port, at.Child("port"))...)
		errs = append(errs, enum(get.Scheme, at.Child("scheme"), corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
		for _, h := range get.HTTPHeaders {
			for _, msg := range validation.IsHTTPHeaderName(h.Name) {
				errs = append(errs, field.Invalid(at.Child("httpHeaders"), h.Name, msg))
			}
		}
	}
	if count(tcp != nil, "tcpSocket") {
		errs = append(errs, portOrName(tcp.Port, at.Child("tcpSocket", "port"))...)
	}
	count(grpc, "grpc")
	count(sleep != nil, "sleep")
	if n == 0 {
		errs = append(errs, field.Required(at, "must specify a handler type"))
	}
	return errs
}

func portOrName(p intstr.IntOrString, at *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return portNumber(p.IntValue(), at)
	}
	var errs field.ErrorList
	for _, msg := range validation.IsValidPortName(p.StrVal) {
		errs = append(errs, field.Invalid(at, p.StrVal, msg))
	}
	return errs
}

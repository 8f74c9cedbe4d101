package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Events are the events of the core group.
func Events() resources.Resource {
	return resources.Declare(EventSpec(resources.TypedStrategy[corev1.Event, *corev1.Event]{
		Validate: validateEvent, ValidateUpdate: validateEventUpdate,
		Metadata: resources.MetadataRules{AnyFinalizer: true, Last: true},
	}))
}

// EventSpec is the events of either group: rules is what a group holds them to.
func EventSpec(rules resources.TypedStrategy[corev1.Event, *corev1.Event]) resources.Spec[corev1.Event, *corev1.Event] {
	r := namespaced("Event", "events", "ev")
	r.Versions = v1[corev1.Event](func() runtime.Object { return &corev1.EventList{} }, nil)
	r.NoWindow = true
	r.Columns = EventColumns()
	rules.AllowCreateOnUpdate, rules.AllowUnconditionalUpdate = true, true
	return resources.Spec[corev1.Event, *corev1.Event]{Resource: r, Strategy: rules, SelectableFields: EventFields(), Row: EventRow}
}

// EventColumns are the columns of events of either group.
func EventColumns() []metav1.TableColumnDefinition {
	return table.Columns(
		table.Text("Last Seen", "Time since the event was last seen"),
		table.Text("Type", "Type of the event"),
		table.Text("Reason", "Reason of the event"),
		table.Text("Object", "The object that the event is about"),
		table.Wide(table.Text("Subobject", "The part of the object that the event is about")),
		table.Wide(table.Text("Source", "Who reported the event")),
		table.Text("Message", "What happened"),
		table.Wide(table.Text("First Seen", "Time since the event was first seen")),
		table.Wide(table.Text("Count", "How often the event was seen")),
		table.Wide(table.Name()),
	)
}

// EventRow is the row of an event of either group.
func EventRow(e *corev1.Event) []any {
	first := table.Since(e.FirstTimestamp)
	if e.FirstTimestamp.IsZero() {
		first = table.SinceMicro(e.EventTime)
	}
	last := table.Since(e.LastTimestamp)
	if e.LastTimestamp.IsZero() {
		last = first
	}
	count := e.Count
	if e.Series != nil {
		last = table.SinceMicro(e.Series.LastObservedTime)
		count = e.Series.Count
	} else if count == 0 {
		count = 1
	}
	target := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		target += "/" + e.InvolvedObject.Name
	}
	return []any{
		last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, eventSource(e),
		strings.TrimSpace(e.Message), first, int64(count), e.Name,
	}
}

func eventSource(e *corev1.Event) string {
	component, instance := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if instance == "" {
		instance = e.ReportingInstance
	}
	if instance == "" {
		return component
	}
	return fmt.Sprintf("%s, %s", component, instance)
}

// EventFields are the selectable fields of core events.
func EventFields() map[string]func(*corev1.Event) string {
	return map[string]func(*corev1.Event) string{
		"involvedObject.kind":            func(e *corev1.Event) string { return e.InvolvedObject.Kind },
		"involvedObject.namespace":       func(e *corev1.Event) string { return e.InvolvedObject.Namespace },
		"involvedObject.name":            func(e *corev1.Event) string { return e.InvolvedObject.Name },
		"involvedObject.uid":             func(e *corev1.Event) string { return string(e.InvolvedObject.UID) },
		"involvedObject.apiVersion":      func(e *corev1.Event) string { return e.InvolvedObject.APIVersion },
		"involvedObject.resourceVersion": func(e *corev1.Event) string { return e.InvolvedObject.ResourceVersion },
		"involvedObject.fieldPath":       func(e *corev1.Event) string { return e.InvolvedObject.FieldPath },
		"reason":                         func(e *corev1.Event) string { return e.Reason },
		"reportingComponent":             func(e *corev1.Event) string { return e.ReportingController },
		"source": func(e *corev1.Event) string {
			if e.Source.Component != "" {
				return e.Source.Component
			}
			return e.ReportingController
		},
		"type": func(e *corev1.Event) string { return e.Type },
	}
}

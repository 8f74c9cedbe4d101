// Package events declares the events of events.k8s.io, which are core's under
// another name.
package events

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/core"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	s := core.EventSpec(resources.TypedStrategy[corev1.Event, *corev1.Event]{
		Metadata: resources.MetadataRules{AnyFinalizer: true, Last: true}, NameValidation: apivalidation.NameIsDNSSubdomain, Validate: validate, ValidateUpdate: validateUpdate,
	})
	s.Group = eventsv1.GroupName
	s.SharesStoreWith = schema.GroupResource{Resource: "events"}
	s.Versions = []resources.Version{{
		Name: "v1", New: resources.Empty[eventsv1.Event], NewList: resources.Empty[eventsv1.EventList],
		ToHub: toCore, FromHub: fromCore, FieldLabels: fieldLabels(),
	}}
	return []resources.Resource{resources.Declare(s)}
}

// fieldLabels are this group's names of core's fields.
func fieldLabels() map[string]string {
	out := map[string]string{"reason": "reason", "type": "type", "reportingController": "reportingComponent"}
	for _, f := range []string{"kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"} {
		out["regarding."+f] = "involvedObject." + f
	}
	return out
}

func toCore(in runtime.Object) (runtime.Object, error) {
	e, ok := in.(*eventsv1.Event)
	if !ok {
		return nil, fmt.Errorf("converting from events.k8s.io/v1: got a %T", in)
	}
	e = e.DeepCopy()
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, InvolvedObject: e.Regarding, Related: e.Related, Message: e.Note, Type: e.Type,
		Source: e.DeprecatedSource, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

func fromCore(in runtime.Object) (runtime.Object, error) {
	e, ok := in.(*corev1.Event)
	if !ok {
		return nil, fmt.Errorf("converting to events.k8s.io/v1: got a %T", in)
	}
	e = e.DeepCopy()
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, Regarding: e.InvolvedObject, Related: e.Related, Note: e.Message, Type: e.Type,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out, nil
}

package events

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// whole is an event that the group takes.
func whole() *corev1.Event {
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: "default", Name: "e"},
		InvolvedObject:      corev1.ObjectReference{Namespace: "default", Name: "p"},
		EventTime:           metav1.NewMicroTime(time.Unix(1, 0)),
		ReportingController: "c", ReportingInstance: "i", Action: "a", Reason: "r", Type: corev1.EventTypeNormal,
	}
}

func TestCreateIsStrict(t *testing.T) {
	now := metav1.NewTime(time.Unix(2, 0))
	for _, tc := range []struct {
		name   string
		change func(*corev1.Event)
		want   []string
	}{
		{"whole", func(*corev1.Event) {}, nil},
		{"core's shape", func(e *corev1.Event) {
			*e = corev1.Event{ObjectMeta: e.ObjectMeta, InvolvedObject: e.InvolvedObject, Reason: "r", Type: "Normal", FirstTimestamp: now, LastTimestamp: now, Count: 1, Source: corev1.EventSource{Component: "c"}}
		}, []string{
			`eventTime: Required value`,
			`firstTimestamp: Invalid value: "": needs to be unset`,
			`lastTimestamp: Invalid value: "": needs to be unset`,
			`count: Invalid value: "": needs to be unset`,
			`source: Invalid value: "": needs to be unset`,
		}},
		{"empty", func(e *corev1.Event) {
			e.Reason, e.Action, e.ReportingInstance, e.Type = "", "", "", ""
		}, []string{
			`reportingInstance: Required value`, `action: Required value`, `reason: Required value`, `type: Invalid value: "": has invalid value: `,
		}},
		{"a name of another shape", func(e *corev1.Event) { e.Name = "-bad_" }, []string{
			`metadata.name: Invalid value: "-bad_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
		}},
		{"no controller", func(e *corev1.Event) { e.ReportingController = "" }, []string{
			`reportingController: Required value`,
			`reportingController: Invalid value: "": name part must be non-empty`,
			`reportingController: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
		{"too long", func(e *corev1.Event) {
			long := strings.Repeat("x", 129)
			e.Reason, e.Action, e.ReportingInstance, e.Message = long, long, long, strings.Repeat("x", 1025)
		}, []string{
			`reportingInstance: Invalid value: "": can have at most 128 characters`, `action: Invalid value: "": can have at most 128 characters`,
			`reason: Invalid value: "": can have at most 128 characters`, `message: Invalid value: "": can have at most 1024 characters`,
		}},
		{"series of one", func(e *corev1.Event) { e.Series = &corev1.EventSeries{Count: 1} }, []string{
			`series.count: Invalid value: "": should be at least 2`, `series.lastObservedTime: Required value`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := whole()
			tc.change(e)
			if diff := cmp.Diff(tc.want, texts(validate(t.Context(), e))); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUpdateTakesTheSeriesAlone(t *testing.T) {
	now := metav1.NewTime(time.Unix(2, 0))
	const immutable = ": field is immutable"
	for _, tc := range []struct {
		name   string
		change func(*corev1.Event)
		fields []string
	}{
		{"series", func(e *corev1.Event) {
			e.Series = &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(now.Time)}
		}, nil},
		{"less than a microsecond", func(e *corev1.Event) { e.EventTime = metav1.NewMicroTime(e.EventTime.Add(999)) }, nil},
		{"labels", func(e *corev1.Event) { e.Labels = map[string]string{"a": "b"} }, nil},
		{"strings", func(e *corev1.Event) {
			e.Reason, e.Message, e.Type, e.Action, e.ReportingController, e.ReportingInstance = "x", "x", "Warning", "x", "x", "x"
		}, []string{"reason", "message", "type", "action", "reportingController", "reportingInstance"}},
		{"older shape", func(e *corev1.Event) {
			e.FirstTimestamp, e.LastTimestamp, e.Count, e.Source.Component = now, now, 3, "c"
		}, []string{"source", "firstTimestamp", "lastTimestamp", "count"}},
		{"objects", func(e *corev1.Event) {
			e.InvolvedObject.Name, e.Related, e.EventTime = "q", &corev1.ObjectReference{Name: "x"}, metav1.NewMicroTime(now.Time)
		}, []string{"involvedObject", "eventTime", "related"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := whole()
			tc.change(e)
			errs := validateUpdate(t.Context(), e, whole())
			var got []string
			for _, err := range errs {
				got = append(got, err.Field)
				if !strings.HasSuffix(err.Error(), immutable) {
					t.Errorf("error %v", err)
				}
			}
			if diff := cmp.Diff(tc.fields, got); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

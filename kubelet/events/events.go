// Package events records what happens on the node as API events, joined and
// rate limited as upstream's, from one goroutine.
package events

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// queueLength is how many events may wait; more are dropped, as an API server
// that is away must not hold up pods.
const queueLength = 1000

// maxMessage is what events.k8s.io takes.
const maxMessage = 1024

// Recorder implements record.EventRecorder.
type Recorder struct {
	client kubernetes.Interface
	source v1.EventSource
	queue  chan *v1.Event
}

var _ record.EventRecorder = (*Recorder)(nil)

// New returns a recorder; events wait until it runs.
func New(client kubernetes.Interface, component, host string) *Recorder {
	return &Recorder{client: client, source: v1.EventSource{Component: component, Host: host}, queue: make(chan *v1.Event, queueLength)}
}

// Event implements record.EventRecorder.
func (r *Recorder) Event(object runtime.Object, kind, reason, message string) {
	r.AnnotatedEventf(object, nil, kind, reason, "%s", message)
}

// Eventf implements record.EventRecorder.
func (r *Recorder) Eventf(object runtime.Object, kind, reason, format string, args ...any) {
	r.AnnotatedEventf(object, nil, kind, reason, format, args...)
}

// AnnotatedEventf implements record.EventRecorder.
func (r *Recorder) AnnotatedEventf(object runtime.Object, annotations map[string]string, kind, reason, format string, args ...any) {
	ref, err := reference.GetReference(scheme.Scheme, object)
	if err != nil {
		return
	}
	now := metav1.Now()
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	message := shortened(fmt.Sprintf(format, args...))
	event := &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%v.%x", ref.Name, now.UnixNano()), Namespace: namespace, Annotations: annotations},
		InvolvedObject: *ref, Reason: reason, Message: message, FirstTimestamp: now, LastTimestamp: now, Count: 1, Type: kind,
		Source: r.source, ReportingController: r.source.Component, ReportingInstance: r.source.Host,
	}
	select {
	case r.queue <- event:
	default:
	}
}

// shortened is a message of at most maxMessage bytes, cut between two characters.
func shortened(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	end := maxMessage - len("...")
	for end > maxMessage-len("...")-utf8.UTFMax && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + "..."
}

// Run sends events until the context ends; what waits then is lost.
func (r *Recorder) Run(ctx context.Context) error {
	correlator := record.NewEventCorrelator(clock.RealClock{})
	for {
		select {
		case e := <-r.queue:
			r.send(ctx, correlator, e)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Recorder) send(ctx context.Context, correlator *record.EventCorrelator, event *v1.Event) {
	result, err := correlator.EventCorrelate(event)
	if err != nil || result.Skip {
		return
	}
	for try := range 5 {
		if try > 0 {
			timer := time.NewTimer(time.Second << min(try, 3))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
		}
		got, err := r.write(ctx, result.Event, result.Patch)
		if err == nil {
			correlator.UpdateState(got)
			return
		}
		if ctx.Err() != nil {
			return
		}
		if _, answered := err.(apierrors.APIStatus); answered && !passes(err) {
			klog.FromContext(ctx).V(2).Info("The API server refused an event", "reason", event.Reason, "err", err)
			return
		}
	}
}

// passes tells whether what keeps the API server from taking an event can pass by
// itself. The node's own disk is one such thing where the store is on it too: it is
// full when pods are evicted for that.
func passes(err error) bool {
	return apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}

func (r *Recorder) write(ctx context.Context, event *v1.Event, patch []byte) (*v1.Event, error) {
	events := r.client.CoreV1().Events(event.Namespace)
	if event.Count > 1 {
		got, err := events.Patch(ctx, event.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		if !apierrors.IsNotFound(err) {
			return got, err
		}
		// The earlier one has expired.
	}
	event = event.DeepCopy()
	event.ResourceVersion = ""
	return events.Create(ctx, event, metav1.CreateOptions{})
}

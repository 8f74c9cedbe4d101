package connect

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"skiff/apiserver/handlers"
)

func (c *connectors) pod(ctx context.Context, t *handlers.Target) (*corev1.Pod, error) {
	target, ok := c.API.Hub(podsResource, t.Namespace, t.Name)
	if !ok {
		return nil, apierrors.NewNotFound(podsResource, t.Name)
	}
	it, err := target.Store.Get(ctx, t.Namespace, t.Name, "")
	if err != nil {
		return nil, err
	}
	obj, err := it.Object()
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}

// container is the one that a request is about.
func container(pod *corev1.Pod, name string) (string, error) {
	if name == "" {
		switch len(pod.Spec.Containers) {
		case 1:
			return pod.Spec.Containers[0].Name, nil
		case 0:
			return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
		}
		names := containerNames(pod.Spec.Containers)
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
		if init := containerNames(pod.Spec.InitContainers); len(init) > 0 {
			text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(init, " "))
		}
		return "", apierrors.NewBadRequest(text)
	}
	if slices.Contains(containerNames(pod.Spec.Containers), name) || slices.Contains(containerNames(pod.Spec.InitContainers), name) {
		return name, nil
	}
	for _, e := range pod.Spec.EphemeralContainers {
		if e.Name == name {
			return name, nil
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func containerNames(list []corev1.Container) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// toKubelet is a request's place on the kubelet of the pod's node.
func (c *connectors) toKubelet(ctx context.Context, pod *corev1.Pod, query url.Values, path ...string) (*url.URL, error) {
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	u, err := c.Dialer.Kubelet(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	u.Path = "/" + strings.Join(path, "/")
	u.RawQuery = query.Encode()
	return u, nil
}

// flag reads a boolean parameter as the codec of parameters does: what is neither
// absent nor false is true.
func flag(q url.Values, name string) bool {
	v := q[name]
	var on bool
	return runtime.Convert_Slice_string_To_bool(&v, &on, nil) == nil && on
}

// streamQuery is how kubelets name the streams.
func streamQuery(q url.Values) url.Values {
	out := url.Values{}
	for from, to := range map[string]string{"stdin": corev1.ExecStdinParam, "stdout": corev1.ExecStdoutParam, "stderr": corev1.ExecStderrParam, "tty": corev1.ExecTTYParam} {
		if flag(q, from) {
			out.Set(to, "1")
		}
	}
	return out
}

func (c *connectors) exec(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	q := r.URL.Query()
	o := &corev1.PodExecOptions{
		Stdin: flag(q, "stdin"), Stdout: flag(q, "stdout"), Stderr: flag(q, "stderr"), TTY: flag(q, "tty"),
		Container: q.Get("container"), Command: q["command"],
	}
	c.stream(w, r, t, o, "exec", o.Container)
}

func (c *connectors) attach(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	q := r.URL.Query()
	o := &corev1.PodAttachOptions{
		Stdin: flag(q, "stdin"), Stdout: flag(q, "stdout"), Stderr: flag(q, "stderr"), TTY: flag(q, "tty"), Container: q.Get("container"),
	}
	c.stream(w, r, t, o, "attach", o.Container)
}

// mayStream asks for the right to create of those who come with a GET, as every
// WebSocket does: who may only get must not get a shell.
func (c *connectors) mayStream(r *http.Request, t *handlers.Target) error {
	if r.Method == http.MethodPost {
		return nil
	}
	return c.API.MayCreate(r.Context(), t)
}

func (c *connectors) stream(w http.ResponseWriter, r *http.Request, t *handlers.Target, o runtime.Object, kind, name string) {
	pod, err := c.pod(r.Context(), t)
	if err == nil {
		name, err = container(pod, name)
	}
	if err == nil {
		err = c.mayStream(r, t)
	}
	if err == nil {
		err = c.API.Connect(r.Context(), t, o)
	}
	var u *url.URL
	if err == nil {
		q := streamQuery(r.URL.Query())
		for _, arg := range r.URL.Query()["command"] {
			q.Add(corev1.ExecCommandParam, arg)
		}
		u, err = c.toKubelet(r.Context(), pod, q, kind, pod.Namespace, pod.Name, name)
	}
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		c.translate(w, r, u)
		return
	}
	c.pass(w, r, passing{to: u, transport: c.Dialer.kubeletTransport(), upgradeOnly: true})
}

func (c *connectors) portForward(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	o := &corev1.PodPortForwardOptions{}
	query := url.Values{}
	for _, text := range r.URL.Query()["ports"] {
		query.Add("port", text)
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.ParseInt(part, 10, 32)
			if err != nil || n < 1 || n > 65535 {
				handlers.WriteError(w, r, apierrors.NewBadRequest(fmt.Sprintf("port %q is not a number from 1 to 65535", part)))
				return
			}
			o.Ports = append(o.Ports, int32(n))
		}
	}
	pod, err := c.pod(r.Context(), t)
	if err == nil {
		err = c.mayStream(r, t)
	}
	if err == nil {
		err = c.API.Connect(r.Context(), t, o)
	}
	var u *url.URL
	if err == nil {
		u, err = c.toKubelet(r.Context(), pod, query, "portForward", pod.Namespace, pod.Name)
	}
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		c.tunnel(w, r, u)
		return
	}
	c.pass(w, r, passing{to: u, transport: c.Dialer.kubeletTransport(), upgradeOnly: true})
}

// log streams what a container wrote.
func (c *connectors) log(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := r.URL.Query()
	q, err := logQuery(t.Name, in)
	var pod *corev1.Pod
	if err == nil {
		pod, err = c.pod(r.Context(), t)
	}
	var name string
	if err == nil {
		name, err = container(pod, in.Get("container"))
	}
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if pod.Spec.NodeName == "" {
		// There is nothing to read yet.
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	u, err := c.toKubelet(r.Context(), pod, q, "containerLogs", pod.Namespace, pod.Name, name)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	transport := c.Dialer.kubeletTransport()
	if flag(in, "insecureSkipTLSVerifyBackend") {
		transport = c.Dialer.plainTransport()
	}
	p := passing{to: u, transport: transport, text: true, resource: t}
	if c.logSocket(w, r, p) {
		return
	}
	// Get only: the client's own headers say nothing to the kubelet.
	out := r.Clone(r.Context())
	out.Header = http.Header{}
	c.pass(w, out, p)
}

// logQuery is what the kubelet is asked for. What cannot be read at all is a bad
// request, what cannot be meant is invalid.
func logQuery(name string, in url.Values) (url.Values, error) {
	var errs field.ErrorList
	q := url.Values{}
	for _, name := range []string{"follow", "previous", "timestamps"} {
		if flag(in, name) {
			q.Set(name, "true")
		}
	}
	for _, b := range []struct {
		name string
		min  int64
		text string
	}{
		{"sinceSeconds", 1, "must be greater than 0"}, {"tailLines", 0, "must be greater than or equal to 0"}, {"limitBytes", 1, "must be greater than 0"},
	} {
		values, ok := in[b.name]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if n < b.min {
			errs = append(errs, field.Invalid(field.NewPath(b.name), n, b.text))
		}
		q.Set(b.name, values[0])
	}
	if text := in.Get("sinceTime"); text != "" {
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		q.Set("sinceTime", text)
		if in.Get("sinceSeconds") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
	}
	switch s := in.Get("stream"); s {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		q.Set("stream", s)
		if in.Get("tailLines") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
	default:
		errs = append(errs, field.NotSupported(field.NewPath("stream"), s, []string{corev1.LogStreamAll, corev1.LogStreamStderr, corev1.LogStreamStdout}))
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	return q, nil
}

var podsResource = schema.GroupResource{Resource: "pods"}

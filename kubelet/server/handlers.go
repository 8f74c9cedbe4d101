package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
)

func writeJSON(w http.ResponseWriter, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func podList(pods []*v1.Pod) *v1.PodList {
	out := &v1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []v1.Pod{}}
	for _, p := range pods {
		out.Items = append(out.Items, *p)
	}
	return out
}

func (s *Server) pods(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, podList(s.cfg.Pods.Pods()))
}

func (s *Server) runningPods(w http.ResponseWriter, r *http.Request) {
	pods, err := s.cfg.Pods.RunningPods(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, podList(pods))
}

func (s *Server) configz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{"kubeletconfig": s.cfg.Kubelet})
}

func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	only, _ := strconv.ParseBool(r.FormValue("only_cpu_and_memory"))
	out, err := s.cfg.Stats.Summary(r.Context(), only)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, out)
}

// find returns the pod of a request; false means that the answer was given.
func (s *Server) find(w http.ResponseWriter, r *http.Request) (*v1.Pod, bool) {
	namespace, name := chi.URLParam(r, "namespace"), chi.URLParam(r, "pod")
	pod := s.cfg.Pods.PodByName(namespace, name)
	if uid := chi.URLParam(r, "uid"); pod != nil && uid != "" && uid != string(pod.UID) {
		pod = nil
	}
	if pod == nil {
		http.Error(w, fmt.Sprintf("pod %q does not exist", name), http.StatusNotFound)
		return nil, false
	}
	return pod, true
}

func statusOf(pod *v1.Pod, container string) *v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == container {
				return &list[i]
			}
		}
	}
	return nil
}

func plainID(id string) string {
	_, plain, ok := strings.Cut(id, "://")
	if !ok {
		return id
	}
	return plain
}

// running returns the identifier of a container that runs.
func (s *Server) running(w http.ResponseWriter, r *http.Request) (string, bool) {
	pod, ok := s.find(w, r)
	if !ok {
		return "", false
	}
	container := chi.URLParam(r, "container")
	st := statusOf(pod, container)
	if st == nil || st.ContainerID == "" || st.State.Running == nil {
		http.Error(w, fmt.Sprintf("container not found (%q)", container), http.StatusNotFound)
		return "", false
	}
	return plainID(st.ContainerID), true
}

// logID finds whose log is wanted, or says why there is none.
func logID(pod *v1.Pod, container string, previous bool) (string, error) {
	st := statusOf(pod, container)
	if st == nil {
		return "", fmt.Errorf("container %q in pod %q is not available", container, pod.Name)
	}
	last := st.LastTerminationState.Terminated
	if previous {
		if last == nil || last.ContainerID == "" {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", container, pod.Name)
		}
		return plainID(last.ContainerID), nil
	}
	switch {
	case st.State.Running != nil:
		return plainID(st.ContainerID), nil
	case st.State.Terminated != nil:
		id := st.State.Terminated.ContainerID
		if id == "" && last != nil {
			id = last.ContainerID
		}
		if id != "" {
			return plainID(id), nil
		}
	case last != nil && last.ContainerID != "":
		return plainID(last.ContainerID), nil
	case st.State.Waiting != nil:
		switch reason := st.State.Waiting.Reason; reason {
		case "ErrImagePull":
			return "", fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", container, pod.Name)
		case "ImagePullBackOff":
			return "", fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", container, pod.Name)
		default:
			return "", fmt.Errorf("container %q in pod %q is waiting to start: %v", container, pod.Name, reason)
		}
	}
	return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", container, pod.Name)
}

func logOptions(q url.Values, now time.Time) (*logs.LogOptions, error) {
	out := &logs.LogOptions{}
	out.Follow, _ = strconv.ParseBool(q.Get("follow"))
	out.Timestamp, _ = strconv.ParseBool(q.Get("timestamps"))
	for name, field := range map[string]**int64{"tailLines": &out.TailLines, "limitBytes": &out.LimitBytes} {
		text := q.Get(name)
		if text == "" || name == "tailLines" && text == "all" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s: Invalid value: %q", name, text)
		}
		*field = &n
	}
	if text := q.Get("sinceSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("sinceSeconds: Invalid value: %q", text)
		}
		out.Since = now.Add(-time.Duration(n) * time.Second)
	} else if text := q.Get("sinceTime"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, fmt.Errorf("sinceTime: Invalid value: %q", text)
		}
		out.Since = t
	}
	return out, nil
}

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	pod, ok := s.find(w, r)
	if !ok {
		return
	}
	container := chi.URLParam(r, "container")
	query := r.URL.Query()
	opts, err := logOptions(query, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	previous, _ := strconv.ParseBool(query.Get("previous"))
	id, err := logID(pod, container, previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp, err := s.cfg.Runtime.ContainerStatus(r.Context(), id, false)
	if err != nil {
		http.Error(w, fmt.Sprintf("unable to retrieve container logs for %s", id), http.StatusBadRequest)
		return
	}
	if info, err := os.Lstat(resp.GetStatus().GetLogPath()); err == nil && !info.Mode().IsRegular() {
		// A container that can write to the folder of logs has put something else
		// there: a link to what it may not read, or a pipe that nobody writes to.
		http.Error(w, fmt.Sprintf("log of container %s is not a regular file", id), http.StatusBadRequest)
		return
	}
	out := &flushed{w: w}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Transfer-Encoding", "chunked")
	stdout, stderr := io.Writer(out), io.Writer(out)
	switch query.Get("stream") {
	case "Stdout":
		stderr = io.Discard
	case "Stderr":
		stdout = io.Discard
	}
	err = logs.ReadLogs(r.Context(), resp.GetStatus().GetLogPath(), id, opts, s.cfg.Runtime, stdout, stderr)
	if err != nil && !out.written && r.Context().Err() == nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// flushed sends each write at once, so that a follower sees lines as they come.
type flushed struct {
	w       http.ResponseWriter
	written bool
}

func (f *flushed) Write(p []byte) (int, error) {
	f.written = true
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
		if errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
	}
	return n, err
}

// streams reads which streams a request wants.
func streams(r *http.Request) (stdin, stdout, stderr, tty bool, err error) {
	q := r.URL.Query()
	flag := func(names ...string) bool {
		for _, n := range names {
			if v := q.Get(n); v == "1" || v == "true" {
				return true
			}
		}
		return false
	}
	tty = flag("tty")
	stdin, stdout, stderr = flag("input", "stdin"), flag("output", "stdout"), flag("error", "stderr") && !tty
	if !stdin && !stdout && !stderr {
		err = errors.New("you must specify at least 1 of stdin, stdout, stderr")
	}
	return
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	stdin, stdout, stderr, tty, err := streams(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, ok := s.running(w, r)
	if !ok {
		return
	}
	resp, err := s.cfg.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: r.URL.Query()["command"], Tty: tty, Stdin: stdin, Stdout: stdout, Stderr: stderr})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.stream(w, r, resp.GetUrl())
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	stdin, stdout, stderr, _, err := streams(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, ok := s.running(w, r)
	if !ok {
		return
	}
	tty := r.URL.Query().Get("tty") == "1" || r.URL.Query().Get("tty") == "true"
	resp, err := s.cfg.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{ContainerId: id, Stdin: stdin, Stdout: stdout, Stderr: stderr, Tty: tty})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.stream(w, r, resp.GetUrl())
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	pod, ok := s.find(w, r)
	if !ok {
		return
	}
	var ports []int32
	for _, text := range r.URL.Query()["port"] {
		for _, p := range strings.Split(text, ",") {
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil || n < 1 || n > 65535 {
				http.Error(w, fmt.Sprintf("invalid port %q", p), http.StatusBadRequest)
				return
			}
			ports = append(ports, int32(n))
		}
	}
	list, err := s.cfg.Runtime.ListPodSandbox(r.Context(), &runtimeapi.PodSandboxFilter{
		State:         &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY},
		LabelSelector: map[string]string{"io.kubernetes.pod.uid": string(pod.UID)},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if len(list) == 0 {
		http.Error(w, fmt.Sprintf("failed to find sandbox for pod %s_%s", pod.Name, pod.Namespace), http.StatusNotFound)
		return
	}
	resp, err := s.cfg.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: list[0].Id, Port: ports})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.stream(w, r, resp.GetUrl())
}

// stream hands the connection over to the runtime's streaming server.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, address string) {
	u, err := url.Parse(address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if s.cfg.Streaming != nil {
		inner := r.Clone(r.Context())
		inner.URL = u
		inner.RequestURI = u.RequestURI()
		s.cfg.Streaming.ServeHTTP(w, inner)
		return
	}
	proxy.NewUpgradeAwareHandler(u, nil, false, true, responder{}).ServeHTTP(w, r)
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	id, ok := s.running(w, r)
	if !ok {
		return
	}
	stdout, stderr, err := s.cfg.Runtime.ExecSync(r.Context(), id, strings.Fields(r.FormValue("cmd")), 0)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(append(stdout, stderr...))
}

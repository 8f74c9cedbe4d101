package server

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// checkpoint has the runtime write a container's state to a file of the node, and
// answers the file's name.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	pod, ok := s.find(w, r)
	if !ok {
		return
	}
	container := chi.URLParam(r, "container")
	st := statusOf(pod, container)
	if st == nil || st.ContainerID == "" {
		http.Error(w, fmt.Sprintf("container %v does not exist", container), http.StatusNotFound)
		return
	}
	req := &runtimeapi.CheckpointContainerRequest{
		ContainerId: plainID(st.ContainerID),
		Location:    filepath.Join(s.cfg.CheckpointDir, fmt.Sprintf("checkpoint-%s_%s-%s-%s.tar", pod.Name, pod.Namespace, container, time.Now().Format(time.RFC3339))),
	}
	if all := r.URL.Query()["timeout"]; len(all) > 0 {
		var err error
		if req.Timeout, err = strconv.ParseInt(all[len(all)-1], 10, 64); err != nil {
			http.Error(w, "cannot parse value of timeout parameter", http.StatusNotFound)
			return
		}
	}
	// What a container has in memory is for the node's administrator alone.
	err := os.MkdirAll(s.cfg.CheckpointDir, 0o700)
	if err == nil {
		err = s.cfg.Runtime.CheckpointContainer(r.Context(), req)
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("checkpointing of %s/%s/%s failed (%v)", pod.Namespace, pod.Name, container, err), http.StatusInternalServerError)
		return
	}
	writeJSON(w, map[string][]string{"items": {req.Location}})
}

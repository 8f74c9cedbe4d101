// Package allocation keeps which resources the node has given to its pods, and
// which of them their containers have. A pod may ask for others while it runs;
// until the node gives them it keeps those it has. Both are written into the
// pod's folder, so that a kubelet started anew holds to them.
package allocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// file is where a pod's folder has its resources.
const file = "resources"

// Resources are those of containers, by name, and of the pod as a whole, where it
// has any, under wholePod.
type Resources map[string]v1.ResourceRequirements

// wholePod can be no container's name.
const wholePod = ""

// Of are the resources that a pod's spec asks for.
func Of(pod *v1.Pod) Resources {
	out := Resources{}
	if pod.Spec.Resources != nil {
		out[wholePod] = *pod.Spec.Resources.DeepCopy()
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			out[list[i].Name] = *list[i].Resources.DeepCopy()
		}
	}
	return out
}

// Same tells whether both give each container the same.
func Same(a, b Resources) bool {
	return maps.EqualFunc(a, b, func(x, y v1.ResourceRequirements) bool { return equality.Semantic.DeepEqual(x, y) })
}

// In is the pod with these resources in place of those that it asks for.
func (r Resources) In(pod *v1.Pod) *v1.Pod {
	out := pod.DeepCopy()
	if given, ok := r[wholePod]; ok {
		out.Spec.Resources = given.DeepCopy()
	}
	for _, list := range [][]v1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range list {
			if given, ok := r[list[i].Name]; ok {
				list[i].Resources = *given.DeepCopy()
			}
		}
	}
	return out
}

// record is what is kept of one pod.
type record struct {
	// Given are the resources that the node has set aside for the pod.
	Given Resources `json:"given"`
	// Actual are those that running containers were last set to, by identifier.
	Actual Resources `json:"actual,omitempty"`
}

// Store keeps the records. Its methods may be called at the same time for
// different pods.
type Store struct {
	podDir func(types.UID) string

	mu   sync.Mutex
	pods map[types.UID]*record // guarded by mu; nil for a pod without a file
}

// New returns a store in the pods' folders.
func New(podDir func(types.UID) string) *Store {
	return &Store{podDir: podDir, pods: make(map[types.UID]*record)}
}

// Given are the resources that a pod was given, if it was.
func (s *Store) Given(uid types.UID) (Resources, bool) {
	r := s.get(uid)
	if r == nil {
		return nil, false
	}
	return r.Given, true
}

// Actual are the resources that a running container was last set to.
func (s *Store) Actual(uid types.UID, containerID string) (v1.ResourceRequirements, bool) {
	r := s.get(uid)
	if r == nil {
		return v1.ResourceRequirements{}, false
	}
	is, ok := r.Actual[containerID]
	return is, ok
}

// Give sets resources aside for a pod.
func (s *Store) Give(uid types.UID, given Resources) error {
	r := &record{Given: given}
	if old := s.get(uid); old != nil {
		r.Actual = old.Actual
	}
	return s.put(uid, r)
}

// Set notes what the running containers of a pod have; those that it does not
// name have ended.
func (s *Store) Set(uid types.UID, actual Resources) error {
	old := s.get(uid)
	if old == nil || Same(old.Actual, actual) {
		return nil
	}
	return s.put(uid, &record{Given: old.Given, Actual: actual})
}

// Forget drops a pod that is gone.
func (s *Store) Forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
}

// get returns a pod's record, which is never changed in place.
func (s *Store) get(uid types.UID) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.pods[uid]; ok {
		return r
	}
	b, err := os.ReadFile(filepath.Join(s.podDir(uid), file))
	r := &record{}
	if err != nil || json.Unmarshal(b, r) != nil {
		// Without a record, what the pod asks for counts as given, as when it
		// came.
		r = nil
	}
	s.pods[uid] = r
	return r
}

func (s *Store) put(uid types.UID, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("resources of pod %s: %w", uid, err)
	}
	dir := s.podDir(uid)
	part := filepath.Join(dir, "."+file)
	err = os.MkdirAll(dir, 0o750)
	if err == nil {
		err = errors.Join(os.WriteFile(part, b, 0o600), os.Rename(part, filepath.Join(dir, file)))
	}
	if err != nil {
		return fmt.Errorf("resources of pod %s: %w", uid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[uid] = r
	return nil
}

package rbac

import (
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiserversa "k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/tools/cache"
)

var (
	clusterRoleResource = schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}
	roleResource        = schema.GroupResource{Group: rbacv1.GroupName, Resource: "roles"}
)

// subjectKey is "u:" and a user name or "g:" and a group name. Service
// accounts are users. Namespaces start with their name and a slash.
type subjectKey string

type scoped struct{ namespace, name string }

// grant is one subject of one binding.
type grant struct {
	binding scoped
	role    rbacv1.RoleRef
	subject rbacv1.Subject
}

// index answers "which bindings name this subject" and "what may this role",
// and follows the informers' events.
type index struct {
	mu    sync.RWMutex // guards all maps; stored values are never changed
	roles map[scoped][]rbacv1.PolicyRule
	// bySubject has cluster bindings under namespace "".
	bySubject map[string]map[subjectKey][]grant
	// subjects of a binding, to take it out again.
	subjects map[scoped][]subjectKey
}

func newIndex() *index {
	return &index{
		roles:     map[scoped][]rbacv1.PolicyRule{},
		bySubject: map[string]map[subjectKey][]grant{},
		subjects:  map[scoped][]subjectKey{},
	}
}

func (x *index) setRole(namespace, name string, rules []rbacv1.PolicyRule) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.roles[scoped{namespace, name}] = rules
}

func (x *index) dropRole(namespace, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.roles, scoped{namespace, name})
}

func keyOf(s rbacv1.Subject, bindingNamespace string) (subjectKey, bool) {
	switch s.Kind {
	case rbacv1.UserKind:
		return subjectKey("u:" + s.Name), true
	case rbacv1.GroupKind:
		return subjectKey("g:" + s.Name), true
	case rbacv1.ServiceAccountKind:
		ns := s.Namespace
		if ns == "" {
			ns = bindingNamespace
		}
		if ns == "" {
			return "", false
		}
		return subjectKey("u:" + apiserversa.MakeUsername(ns, s.Name)), true
	}
	return "", false
}

func (x *index) setBinding(namespace, name string, role rbacv1.RoleRef, subjects []rbacv1.Subject) {
	x.mu.Lock()
	defer x.mu.Unlock()
	id := scoped{namespace, name}
	x.remove(id)
	in := x.bySubject[namespace]
	if in == nil {
		in = map[subjectKey][]grant{}
		x.bySubject[namespace] = in
	}
	for _, s := range subjects {
		key, ok := keyOf(s, namespace)
		if !ok {
			continue
		}
		// A new slice, since readers may hold the former one.
		old := in[key]
		in[key] = append(old[:len(old):len(old)], grant{id, role, s})
		x.subjects[id] = append(x.subjects[id], key)
	}
}

func (x *index) dropBinding(namespace, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(scoped{namespace, name})
}

// remove expects the caller to hold mu.
func (x *index) remove(id scoped) {
	in := x.bySubject[id.namespace]
	for _, key := range x.subjects[id] {
		old := in[key]
		kept := make([]grant, 0, len(old))
		for _, g := range old {
			if g.binding != id {
				kept = append(kept, g)
			}
		}
		if len(kept) == 0 {
			delete(in, key)
		} else {
			in[key] = kept
		}
	}
	delete(x.subjects, id)
	if len(in) == 0 {
		delete(x.bySubject, id.namespace)
	}
}

// visit calls f with each grant of u in the namespace ("" is the cluster) and
// the rules of its role, until f returns false. f runs under the read lock.
func (x *index) visit(u user.Info, namespace string, f func(g *grant, rules []rbacv1.PolicyRule, err error) bool) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	in := x.bySubject[namespace]
	if len(in) == 0 {
		return true
	}
	each := func(key subjectKey) bool {
		grants := in[key]
		for i := range grants {
			rules, err := x.rulesOf(grants[i].role, namespace)
			if !f(&grants[i], rules, err) {
				return false
			}
		}
		return true
	}
	if !each(subjectKey("u:" + u.GetName())) {
		return false
	}
	for _, g := range u.GetGroups() {
		if !each(subjectKey("g:" + g)) {
			return false
		}
	}
	return true
}

// rulesOf expects the caller to hold mu.
func (x *index) rulesOf(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	id, gr := scoped{"", ref.Name}, clusterRoleResource
	if ref.Kind == "Role" {
		id, gr = scoped{namespace, ref.Name}, roleResource
	}
	rules, ok := x.roles[id]
	if !ok {
		gr.Resource = gr.Resource[:len(gr.Resource)-1]
		return nil, apierrors.NewNotFound(gr, ref.Name)
	}
	return rules, nil
}

func (x *index) apply(obj any) {
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		x.setRole("", o.Name, o.Rules)
	case *rbacv1.Role:
		x.setRole(o.Namespace, o.Name, o.Rules)
	case *rbacv1.ClusterRoleBinding:
		x.setBinding("", o.Name, o.RoleRef, o.Subjects)
	case *rbacv1.RoleBinding:
		x.setBinding(o.Namespace, o.Name, o.RoleRef, o.Subjects)
	}
}

func (x *index) forget(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	switch o := obj.(type) {
	case *rbacv1.ClusterRole:
		x.dropRole("", o.Name)
	case *rbacv1.Role:
		x.dropRole(o.Namespace, o.Name)
	case *rbacv1.ClusterRoleBinding:
		x.dropBinding("", o.Name)
	case *rbacv1.RoleBinding:
		x.dropBinding(o.Namespace, o.Name)
	}
}

// handler feeds informers' events to the index.
func (x *index) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    x.apply,
		UpdateFunc: func(_, obj any) { x.apply(obj) },
		DeleteFunc: x.forget,
	}
}

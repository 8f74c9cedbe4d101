package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// OldAPIVersion is the version that Migrate reads beside the present one.
const OldAPIVersion = "kubeadm.k8s.io/v1beta3"

// Migrate reads a configuration file of either version and returns it in the
// present one, document by document, with nothing defaulted. Documents that are
// not kubeadm's are as they were.
func Migrate(path string) ([][]byte, error) {
	var out [][]byte
	// The old ClusterConfiguration has a timeout that belongs to the other kinds now.
	var wait any
	var docs []map[string]any
	err := eachDocument(path, func(meta metav1.TypeMeta, doc []byte) error {
		if meta.APIVersion != APIVersion && meta.APIVersion != OldAPIVersion {
			out = append(out, doc)
			return nil
		}
		var m map[string]any
		if err := yaml.Unmarshal(doc, &m); err != nil {
			return err
		}
		if meta.APIVersion == OldAPIVersion {
			if found := upgradeDocument(m); found != nil {
				wait = found
			}
		}
		docs = append(docs, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("configuration file %s: no document of %s or %s", path, OldAPIVersion, APIVersion)
	}
	var own [][]byte
	for _, m := range docs {
		if wait != nil && (m["kind"] == InitKind || m["kind"] == JoinKind) {
			inner(m, "timeouts")["controlPlaneComponentHealthCheck"] = wait
		}
		b, err := yaml.Marshal(m)
		if err != nil {
			return nil, err
		}
		if err := strict(fmt.Sprint(m["kind"]), b); err != nil {
			return nil, fmt.Errorf("configuration file %s: %w", path, err)
		}
		own = append(own, b)
	}
	return append(own, out...), nil
}

// upgradeDocument turns a document of the old version into one of the present
// version, and returns the timeout that moved to another kind.
func upgradeDocument(m map[string]any) (wait any) {
	m["apiVersion"] = APIVersion
	switch m["kind"] {
	case ClusterKind:
		for _, part := range []string{"apiServer", "controllerManager", "scheduler"} {
			listArgs(m[part], "extraArgs")
		}
		if etcd, ok := m["etcd"].(map[string]any); ok {
			listArgs(etcd["local"], "extraArgs")
		}
		if server, ok := m["apiServer"].(map[string]any); ok {
			wait = server["timeoutForControlPlane"]
			delete(server, "timeoutForControlPlane")
		}
	case InitKind, JoinKind:
		listArgs(m["nodeRegistration"], "kubeletExtraArgs")
		if discovery, ok := m["discovery"].(map[string]any); ok && discovery["timeout"] != nil {
			inner(m, "timeouts")["discovery"] = discovery["timeout"]
			delete(discovery, "timeout")
		}
	}
	return wait
}

// listArgs turns the old map of flags into the list of the present version.
func listArgs(in any, key string) {
	m, ok := in.(map[string]any)
	if !ok {
		return
	}
	args, ok := m[key].(map[string]any)
	if !ok {
		return
	}
	list := make([]any, 0, len(args))
	for _, name := range slices.SortedFunc(maps.Keys(args), cmp.Compare) {
		list = append(list, map[string]any{"name": name, "value": fmt.Sprint(args[name])})
	}
	m[key] = list
}

func inner(m map[string]any, key string) map[string]any {
	if in, ok := m[key].(map[string]any); ok {
		return in
	}
	in := make(map[string]any)
	m[key] = in
	return in
}

// strict tells whether a document of the present version has only fields that
// are known.
func strict(kind string, doc []byte) error {
	into, ok := map[string]any{InitKind: &Init{}, ClusterKind: &Cluster{}, JoinKind: &Join{}, ResetKind: &Reset{}}[kind]
	if !ok {
		return unknownKind(metav1.TypeMeta{APIVersion: APIVersion, Kind: kind})
	}
	if err := yaml.UnmarshalStrict(doc, into); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

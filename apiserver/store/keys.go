package store

import (
	"strings"

	"skiff/apiserver/resources"
)

// Root is where Kubernetes keeps everything.
const Root = "/registry/"

// Prefix is the key prefix of a resource, with a closing slash so that "foo" never
// reads "foobar".
func Prefix(r *resources.Resource) string {
	path := r.Path
	if path == "" {
		path = r.Plural
	}
	return Root + strings.Trim(path, "/") + "/"
}

// Key is an object's key.
func (s *Store) Key(namespace, name string) string {
	if s.res.Namespaced {
		return s.prefix + namespace + "/" + name
	}
	return s.prefix + name
}

// scope is the prefix of a namespace's objects, or of all.
func (s *Store) scope(namespace string) string {
	if s.res.Namespaced && namespace != "" {
		return s.prefix + namespace + "/"
	}
	return s.prefix
}

func (s *Store) splitKey(key string) (namespace, name string) {
	rest := strings.TrimPrefix(key, s.prefix)
	if !s.res.Namespaced {
		return "", rest
	}
	namespace, name, ok := strings.Cut(rest, "/")
	if !ok {
		return "", rest
	}
	return namespace, name
}

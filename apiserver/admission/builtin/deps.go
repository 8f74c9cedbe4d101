// Package builtin lists the admission plugins in the order in which they run,
// and makes the chain of those that are on.
package builtin

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

// Deps are what plugins are made with.
type Deps struct {
	// Client reaches the server itself with every right. Required.
	Client kubernetes.Interface
	// Informers are started by the caller after New. Required.
	Informers informers.SharedInformerFactory
	// Authorizer answers what a user may do. Required.
	Authorizer authorizer.Authorizer
	// Dynamic reads the params of policies; nil refuses policies that take them.
	Dynamic dynamic.Interface
	// Types gives the merge rules of the built-in kinds; nil is those that
	// client-go knows.
	Types func() managedfields.TypeConverter
	// Now tells time; nil is time.Now.
	Now func() time.Time
	// PodSecurity is a PodSecurityConfiguration; empty is the default.
	PodSecurity []byte
}

func (d Deps) types() func() managedfields.TypeConverter {
	if d.Types != nil {
		return d.Types
	}
	return sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) })
}

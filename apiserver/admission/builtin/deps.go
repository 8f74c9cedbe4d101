// Package builtin lists the admission plugins in the order in which they run,
// and makes the chain of those that are on.
package builtin

import (
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
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
	// Now tells time; nil is time.Now.
	Now func() time.Time
	// Configs are the configurations of plugins, by name: see ReadConfigs.
	Configs map[string][]byte
}

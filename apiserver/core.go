package apiserver

import (
	"net/http"

	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver/authz/rbac"
	"skiff/apiserver/handlers"
)

// Core is what the server's own parts share.
type Core struct {
	Handler http.Handler
	Client  kubernetes.Interface
	// Informers are the server's own; they start with Run.
	Informers  informers.SharedInformerFactory
	Authorizer authorizer.Authorizer
	RBAC       *rbac.Authorizer
	API        *handlers.API
}

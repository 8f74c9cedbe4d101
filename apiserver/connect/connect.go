// Package connect answers what is not generic: scale, binding, eviction and
// token, the reviews, component statuses, and the streams and proxies that end
// at a kubelet, a pod or a service.
package connect

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver/handlers"
	"skiff/apiserver/resources"
	"skiff/apiserver/serviceaccount"
)

// Authenticator checks the tokens of TokenReviews.
type Authenticator interface {
	AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error)
	Audiences() []string
}

// Config of the connectors.
type Config struct {
	API        *handlers.API
	Authorizer authorizer.Authorizer
	// Rules lists what a user may do; nil where no authorizer can tell.
	Rules authorizer.RuleResolver
	// RulesIncomplete says why the lists of Rules are not all, and nothing when they are.
	RulesIncomplete func(user.Info) string
	Authenticator   Authenticator
	// Issuer makes tokens; nil answers that there are none.
	Issuer *serviceaccount.Issuer
	Dialer *Dialer
	// Healthy is what componentstatuses says of the store; nil is always well.
	Healthy func(ctx context.Context) error
	// Client is the server itself.
	Client kubernetes.Interface
}

type connectors struct{ Config }

// Register adds the connectors to table.
func Register(table map[resources.Connector]handlers.Connector, c Config) {
	s := &connectors{c}
	for name, connector := range map[resources.Connector]handlers.Connector{
		resources.ConnectScale:                     s.scale,
		resources.ConnectBinding:                   s.binding,
		resources.ConnectPodTemplateBindingOnCores: s.binding,
		resources.ConnectEviction:                  s.eviction,
		resources.ConnectToken:                     s.token,
		resources.ConnectLog:                       s.log,
		resources.ConnectExec:                      s.exec,
		resources.ConnectAttach:                    s.attach,
		resources.ConnectPortForward:               s.portForward,
		resources.ConnectProxy:                     s.proxy,
		resources.ConnectTokenReview:               s.tokenReview,
		resources.ConnectSelfSubjectReview:         s.selfSubjectReview,
		resources.ConnectSubjectAccessReview:       s.subjectAccessReview,
		resources.ConnectLocalSubjectAccessReview:  s.localSubjectAccessReview,
		resources.ConnectSelfSubjectAccessReview:   s.selfSubjectAccessReview,
		resources.ConnectSelfSubjectRulesReview:    s.selfSubjectRulesReview,
		resources.ConnectComponentStatus:           s.componentStatus,
	} {
		table[name] = connector
	}
}

// success answers with a Status where there is no object to show.
func (c *connectors) success(w http.ResponseWriter, r *http.Request, code int) {
	handlers.WriteStatus(w, r, code, &metav1.Status{Status: metav1.StatusSuccess, Code: int32(code)})
}

func dryRunOf(r *http.Request) []string { return r.URL.Query()["dryRun"] }

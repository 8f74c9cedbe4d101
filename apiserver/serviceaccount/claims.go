package serviceaccount

import (
	"time"

	"github.com/google/uuid"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserversa "k8s.io/apiserver/pkg/authentication/serviceaccount"
)

// WarnOnlyBoundTokenExpiration is how long a token that is said to expire
// after an hour really lives when expirations are extended, for clients that
// do not reload it.
const WarnOnlyBoundTokenExpiration = 365 * 24 * 60 * 60

// Claims of a token: the registered ones and Kubernetes' own.
type Claims struct {
	jwt.Claims
	Kubernetes Private `json:"kubernetes.io"`
}

// Private are the claims below "kubernetes.io".
type Private struct {
	Namespace      string           `json:"namespace,omitempty"`
	Node           *Ref             `json:"node,omitempty"`
	Pod            *Ref             `json:"pod,omitempty"`
	Secret         *Ref             `json:"secret,omitempty"`
	ServiceAccount Ref              `json:"serviceaccount,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

// Ref names an object.
type Ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

func refOf(o metav1.Object) *Ref { return &Ref{Name: o.GetName(), UID: string(o.GetUID())} }

// Binding is what a token is bound to; at most one of Pod, Secret and (alone) Node.
type Binding struct {
	Pod    *corev1.Pod
	Secret *corev1.Secret
	// Node is also the pod's node when Pod is set and scheduled.
	Node *corev1.Node
	// PodNodeName is the node's name when its object could not be found.
	PodNodeName string
}

// NewClaims makes the claims of a token. expirationSeconds is its real life;
// warnAfterSeconds, when above zero, is what the client is told.
func NewClaims(now time.Time, sa *corev1.ServiceAccount, b Binding, expirationSeconds, warnAfterSeconds int64, audiences []string) *Claims {
	c := &Claims{
		Claims: jwt.Claims{
			Subject:   apiserversa.MakeUsername(sa.Namespace, sa.Name),
			Audience:  audiences,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(time.Duration(expirationSeconds) * time.Second)),
			ID:        uuid.NewString(),
		},
		Kubernetes: Private{Namespace: sa.Namespace, ServiceAccount: *refOf(sa)},
	}
	k := &c.Kubernetes
	switch {
	case b.Pod != nil:
		k.Pod = refOf(b.Pod)
		if b.Node != nil {
			k.Node = refOf(b.Node)
		} else if b.PodNodeName != "" {
			k.Node = &Ref{Name: b.PodNodeName}
		}
	case b.Secret != nil:
		k.Secret = refOf(b.Secret)
	case b.Node != nil:
		k.Node = refOf(b.Node)
	}
	if warnAfterSeconds > 0 {
		k.WarnAfter = jwt.NewNumericDate(now.Add(time.Duration(warnAfterSeconds) * time.Second))
	}
	return c
}

package serviceaccount

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/apiserver/request"
)

// What a request says of itself must be the account's, and is looked at before
// what it asks for.
func TestTokenRequestOfAnotherAccount(t *testing.T) {
	client := fake.NewClientset(&corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "sa")})
	signer, err := NewSigner(ecKey(t), issuer)
	if err != nil {
		t.Fatal(err)
	}
	iss, err := NewIssuer(IssuerConfig{Signer: signer, Getter: NewGetter(client, informers.NewSharedInformerFactory(client, 0)), MaxExpiration: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	short := authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](1)}
	for name, tc := range map[string]struct {
		account string
		in      authenticationv1.TokenRequest
		want    string
		warns   []string
	}{
		"its own":                         {"sa", authenticationv1.TokenRequest{ObjectMeta: meta("ns", "sa", "sa")}, "", nil},
		"another name":                    {"sa", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: short}, `TokenRequest.authentication.k8s.io "sa" is invalid: metadata.name: Invalid value: "x": must match the service account name if specified`, nil},
		"another namespace":               {"sa", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "x"}}, `metadata.namespace: Invalid value: "x": must match the service account namespace if specified`, nil},
		"another UID":                     {"sa", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{UID: "x"}, Spec: short}, `Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "sa": the UID in the token request (x) does not match the UID of the service account (uid-sa)`, nil},
		"no account":                      {"gone", authenticationv1.TokenRequest{Spec: short}, `serviceaccounts "gone" not found`, nil},
		"too short":                       {"sa", authenticationv1.TokenRequest{Spec: short}, "may not specify a duration less than 10 minutes", nil},
		"with attestations":               {"sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Attestations: map[string]authenticationv1.AttestationValue{"a": {"b"}}}}, "attestations may only be specified with a webhook bound object reference", nil},
		"bound to a version that is none": {"sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "a/b/c", Kind: "Pod", Name: "gone"}}}, `pods "gone" not found`, nil},
		"bound to another group's":        {"sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "a/b", Kind: "Pod", Name: "gone"}}}, `cannot bind token to object of type a/b, Kind=Pod`, nil},
		"shortened": {"sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](9000)}}, "",
			[]string{`299 - "requested expiration of 9000 seconds shortened to 7200 seconds"`}},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			out, err := iss.TokenRequest(request.WithWarnings(t.Context(), header), "ns", tc.account, &tc.in)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(meta("ns", "sa", "sa"), metav1.ObjectMeta{Name: out.Name, Namespace: out.Namespace, UID: out.UID}); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.warns, header["Warning"]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

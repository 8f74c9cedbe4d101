package authn

import (
	"testing"

	"k8s.io/apiserver/pkg/apis/apiserver"
)

// Covers: api.authn-oidc
func TestConfigurationWithoutIssuersIsChecked(t *testing.T) {
	conditions := []apiserver.AnonymousAuthCondition{{Path: "/livez"}}
	for name, tc := range map[string]struct {
		anonymous *apiserver.AnonymousAuthConfig
		want      string
	}{
		"nothing is said":     {nil, ""},
		"paths that are open": {&apiserver.AnonymousAuthConfig{Enabled: true, Conditions: conditions}, ""},
		"paths of a door that is shut": {&apiserver.AnonymousAuthConfig{Conditions: conditions},
			`anonymous.conditions: Invalid value: [{"Path":"/livez"}]: enabled should be set to true when conditions are defined`},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if _, err := (&jwtIssuers{}).build(t.Context(), &apiserver.AuthenticationConfiguration{Anonymous: tc.anonymous}); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

package networking

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestIngressHost(t *testing.T) {
	cases := map[string]struct {
		host string
		want []string
	}{
		"none":                          {host: ""},
		"a name":                        {host: "a.b"},
		"a wildcard":                    {host: "*.b"},
		"an address":                    {host: "10.0.0.1", want: []string{"must be a DNS name"}},
		"an address with leading zeros": {host: "010.0.0.1", want: []string{"must be a DNS name"}},
		"an IPv6 address":               {host: "::1", want: []string{"must be a DNS name", "a lowercase RFC 1123 subdomain"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range ingressHost(c.host, field.NewPath("host")) {
				for _, begin := range []string{"must be a DNS name", "a lowercase RFC 1123 subdomain"} {
					if strings.HasPrefix(e.Detail, begin) {
						got = append(got, begin)
					}
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

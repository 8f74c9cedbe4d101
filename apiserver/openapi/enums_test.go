package openapi

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// property is that of a type's schema, in both forms of documents.
func property(t *testing.T, of reflect.Type, field string) object {
	t.Helper()
	var both [2]object
	for i, v3 := range []bool{false, true} {
		s := newSchemas(v3, func(reflect.Type) []schema.GroupVersionKind { return nil })
		p, ok := s.define(of)["properties"].(object)[field].(object)
		if !ok {
			t.Fatalf("%s has no property %s", of, field)
		}
		delete(p, "default")
		both[i] = p
	}
	if d := cmp.Diff(both[0], both[1]); d != "" {
		t.Errorf("v2 and v3 differ (-v2 +v3):\n%s", d)
	}
	return both[1]
}

func TestEnums(t *testing.T) {
	cases := map[string]struct {
		of    reflect.Type
		field string
		want  object
	}{
		"the field's own description comes first": {
			reflect.TypeFor[corev1.ContainerPort](), "protocol",
			object{
				"type": "string", "enum": []string{"SCTP", "TCP", "UDP"},
				"description": corev1.ContainerPort{}.SwaggerDoc()["protocol"] + "\n\nPossible enum values:\n" +
					" - `\"SCTP\"`\n - `\"TCP\"`\n - `\"UDP\"`",
			},
		},
		"as it is declared": {
			reflect.TypeFor[resourcev1.DeviceAllocationConfiguration](), "source",
			object{
				"type": "string", "enum": []string{"FromClaim", "FromClass"},
				"description": resourcev1.DeviceAllocationConfiguration{}.SwaggerDoc()["source"] + "\n\nPossible enum values:\n - `\"FromClaim\"`\n - `\"FromClass\"`",
			},
		},
		"behind a pointer": {
			reflect.TypeFor[corev1.PersistentVolumeClaimSpec](), "volumeMode",
			object{
				"type": "string", "enum": []string{"Block", "Filesystem"},
				"description": corev1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeMode"] + "\n\nPossible enum values:\n" +
					" - `\"Block\"`\n" +
					" - `\"Filesystem\"`",
			},
		},
		"in a list, the values are the items'": {
			reflect.TypeFor[admissionregistrationv1.RuleWithOperations](), "operations",
			object{
				"type": "array", "x-kubernetes-list-type": "atomic", "description": admissionregistrationv1.RuleWithOperations{}.SwaggerDoc()["operations"],
				"items": object{"type": "string", "enum": []string{"*", "CONNECT", "CREATE", "DELETE", "UPDATE"}},
			},
		},
		"values that another package's constants name": {
			reflect.TypeFor[discoveryv1.EndpointSlice](), "addressType",
			object{
				"type": "string", "enum": []string{"FQDN", "IPv4", "IPv6"},
				"description": discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"] + "\n\nPossible enum values:\n" +
					" - `\"FQDN\"`\n - `\"IPv4\"`\n - `\"IPv6\"`",
			},
		},
		"a string without known values": {
			reflect.TypeFor[certificatesv1.CertificateSigningRequestSpec](), "signerName",
			object{"type": "string", "description": certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()["signerName"]},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, property(t, c.of, c.field)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestValuesWithSpaces: what is quoted in the table is not cut.
func TestValuesWithSpaces(t *testing.T) {
	items := property(t, reflect.TypeFor[certificatesv1.CertificateSigningRequestSpec](), "usages")["items"].(object)
	values := items["enum"].([]string)
	if len(values) != 23 || values[len(values)-1] != "timestamping" || values[8] != "digital signature" {
		t.Errorf("usages: %q", values)
	}
}

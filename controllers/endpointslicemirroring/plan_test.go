package endpointslicemirroring

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMakePlan(t *testing.T) {
	e := &v1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default", UID: "e"}, Subsets: []v1.EndpointSubset{{
		Addresses: []v1.EndpointAddress{{IP: "10.0.0.1"}, {IP: "fd00::1"}}, NotReadyAddresses: []v1.EndpointAddress{{IP: "10.0.0.2"}},
		Ports: []v1.EndpointPort{{Name: "sql", Port: 5432, Protocol: v1.ProtocolTCP}},
	}}}
	first := MakePlan(e, nil)
	if len(first.Create) != 2 || first.Create[0].AddressType != discovery.AddressTypeIPv4 || len(first.Create[0].Endpoints) != 2 {
		t.Fatalf("first plan: %+v", first)
	}
	for i, s := range first.Create {
		s.Name = []string{"a", "b"}[i]
	}
	if again := MakePlan(e, first.Create); len(again.Create)+len(again.Update)+len(again.Delete) != 0 {
		t.Errorf("a second look changes things: %+v", again)
	}
	e.Subsets[0].Addresses = e.Subsets[0].Addresses[:1]
	third := MakePlan(e, first.Create)
	if len(third.Delete) != 1 || third.Delete[0].Name != "b" || len(third.Update) != 0 {
		t.Errorf("after the IPv6 address went: %+v", third)
	}
}

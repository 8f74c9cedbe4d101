package e2e

import (
	"strings"
	"time"
)

// Covers: api.custom-schema, api.custom-conditions
func customResources(s *space) {
	const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.e2e.example.com}
spec:
  group: e2e.example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}, scale: {specReplicasPath: .spec.seats, statusReplicasPath: .status.seats}}
      additionalPrinterColumns: [{name: Seats, type: integer, jsonPath: .spec.seats}]
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [seats]
              x-kubernetes-validations: [{rule: "self.seats != 13", message: "thirteen brings bad luck"}]
              properties:
                seats: {type: integer, minimum: 1, description: how many can sit}
                colour: {type: string, default: white}
            status:
              type: object
              properties: {seats: {type: integer}}
`
	boat := func(name, seats string) string {
		return "apiVersion: e2e.example.com/v1\nkind: Boat\nmetadata: {name: " + name + "}\nspec: {seats: " + seats + "}\n"
	}
	s.apply(definition)
	s.t.Cleanup(func() {
		if out, err := s.try(definition, "delete", "-f", "-", "--timeout=60s"); err != nil {
			s.t.Errorf("delete the definition: %v: %s", err, out)
		}
	})
	s.run("wait", "--for=condition=Established", "crd/boats.e2e.example.com", "--timeout=30s")
	s.until(20*time.Second, "boats", "api-resources", "--api-group=e2e.example.com")
	s.eventually(20*time.Second, "the first boat", func() error {
		_, err := s.try(boat("skiff", "2"), "apply", "-f", "-")
		return err
	})
	s.says([]string{"SEATS", "skiff", "2"}, "get", "bt")
	if got := s.field("boat/skiff", ".spec.colour"); got != "white" {
		s.t.Errorf("the colour is %q, want the default white", got)
	}
	for seats, want := range map[string]string{
		"0": "should be greater than or equal to 1", "13": "thirteen brings bad luck", "many": "must be of type integer",
	} {
		if out, err := s.try(boat("bad", seats), "apply", "-f", "-"); err == nil || !strings.Contains(out, want) {
			s.t.Errorf("seats %s: error %v, want one that says %q:\n%s", seats, err, want, out)
		}
	}
	s.until(20*time.Second, "how many can sit", "explain", "boat.spec")
	s.run("scale", "boat/skiff", "--replicas=4")
	s.run("patch", "boat", "skiff", "--subresource=status", "--type=merge", "-p", `{"status":{"seats":4}}`)
	if got := s.field("boat/skiff", ".spec.seats"); got != "4" {
		s.t.Errorf("seats are %s after scale, want 4", got)
	}
	s.run("delete", "boats", "--all", "--timeout=30s")
}

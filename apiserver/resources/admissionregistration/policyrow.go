package admissionregistration

import (
	v1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources/table"
)

// policyColumns are those of mutating policies and of bindings of both kinds.
func policyColumns(kind string) []metav1.TableColumnDefinition {
	if kind == "MutatingAdmissionPolicy" {
		return table.Columns(table.Name(), table.Int("Mutations", "How many mutations it has."),
			table.Text("ParamKind", "The kind of its parameters."), table.Age())
	}
	return table.Columns(table.Name(), table.Text("PolicyName", "The policy that is bound."),
		table.Text("ParamRef", "The parameters that it is bound with."), table.Age())
}

func policyRow(obj runtime.Object) []any {
	const unset = "<unset>"
	params := func(p *v1.ParamRef) string {
		switch {
		case p == nil:
			return unset
		case p.Name == "":
			return "*"
		case p.Namespace != "":
			return p.Namespace + "/" + p.Name
		}
		return "*/" + p.Name
	}
	switch o := obj.(type) {
	case *v1.MutatingAdmissionPolicy:
		kind := unset
		if p := o.Spec.ParamKind; p != nil {
			kind = p.APIVersion + "/" + p.Kind
		}
		return []any{o.Name, int64(len(o.Spec.Mutations)), kind, table.Since(o.CreationTimestamp)}
	case *v1.MutatingAdmissionPolicyBinding:
		return []any{o.Name, o.Spec.PolicyName, params(o.Spec.ParamRef), table.Since(o.CreationTimestamp)}
	case *v1.ValidatingAdmissionPolicyBinding:
		return []any{o.Name, o.Spec.PolicyName, params(o.Spec.ParamRef), table.Since(o.CreationTimestamp)}
	}
	return nil
}

package vapstatus

import (
	"fmt"

	"github.com/google/cel-go/cel"
	celtypes "github.com/google/cel-go/common/types"
	admission "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
)

// newEnv is what a policy's expressions see where they meet an object of a type.
func newEnv(p *admission.ValidatingAdmissionPolicy, object, params *apicel.DeclType, left *budget) (*cel.Env, error) {
	request, namespace := requestType(), namespaceType()
	declared := []*apicel.DeclType{object, request, namespace}
	options := []cel.EnvOption{
		cel.Variable("object", object.CelType()), cel.Variable("oldObject", object.CelType()),
		cel.Variable("request", request.CelType()), cel.Variable("namespaceObject", namespace.CelType()),
		cel.Variable("authorizer", library.AuthorizerType), cel.Variable("authorizer.requestResource", library.ResourceCheckType),
	}
	switch {
	case p.Spec.ParamKind == nil:
	case params == nil:
		options = append(options, cel.Variable("params", cel.DynType))
	default:
		declared = append(declared, params)
		options = append(options, cel.Variable("params", params.CelType()))
	}
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: options, DeclTypes: declared})
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	env := set.StoredExpressionsEnv()
	composed := variables{Provider: env.CELTypeProvider(), types: map[string]*cel.Type{}}
	env, err = env.Extend(cel.CustomTypeProvider(composed), cel.Variable("variables", cel.ObjectType(variablesName)))
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	// A variable may use those before it. One that is wrong itself is of no type:
	// those who use it are not to blame.
	for _, v := range p.Spec.Variables {
		composed.types[v.Name] = cel.DynType
		if !left.take() {
			continue
		}
		if ast, issues := env.Compile(v.Expression); issues.Err() == nil {
			composed.types[v.Name] = ast.OutputType()
		}
	}
	return env, nil
}

const variablesName = "kubernetes.variables"

// variables adds the type of a policy's own variables to the other types.
type variables struct {
	celtypes.Provider
	types map[string]*cel.Type
}

// FindStructType finds a type by its name.
func (v variables) FindStructType(name string) (*cel.Type, bool) {
	if name == variablesName {
		return celtypes.NewTypeTypeWithParam(cel.ObjectType(variablesName)), true
	}
	return v.Provider.FindStructType(name)
}

// FindStructFieldType finds the type of a variable.
func (v variables) FindStructFieldType(name, field string) (*celtypes.FieldType, bool) {
	if name != variablesName {
		return v.Provider.FindStructFieldType(name, field)
	}
	t, ok := v.types[field]
	return &celtypes.FieldType{Type: t}, ok
}

// fields are an object's, by name.
type fields map[string]*apicel.DeclType

func (f fields) decl() *apicel.DeclType {
	out := make(map[string]*apicel.DeclField, len(f))
	for name, t := range f {
		out[name] = apicel.NewDeclField(name, t, false, nil, nil)
	}
	return apicel.NewObjectType("object", out)
}

// requestType is the type of an AdmissionRequest without its objects.
func requestType() *apicel.DeclType {
	text, texts := apicel.StringType, apicel.NewListType(apicel.StringType, -1)
	kind := fields{"group": text, "version": text, "kind": text}.decl()
	resource := fields{"group": text, "version": text, "resource": text}.decl()
	return fields{
		"uid": text, "kind": kind, "resource": resource, "subResource": text,
		"requestKind": kind, "requestResource": resource, "requestSubResource": text,
		"name": text, "namespace": text, "operation": text, "dryRun": apicel.BoolType, "options": apicel.DynType,
		"userInfo": fields{"username": text, "uid": text, "groups": texts, "extra": apicel.NewMapType(text, texts, -1)}.decl(),
	}.decl().MaybeAssignTypeName("kubernetes.AdmissionRequest")
}

// namespaceType is the type of a Namespace.
func namespaceType() *apicel.DeclType {
	text, texts := apicel.StringType, apicel.NewListType(apicel.StringType, -1)
	pairs := apicel.NewMapType(text, text, -1)
	condition := fields{"type": text, "status": text, "reason": text, "message": text, "lastTransitionTime": text}.decl()
	return fields{
		"metadata": fields{
			"name": text, "generateName": text, "namespace": text, "uid": text, "resourceVersion": text,
			"labels": pairs, "annotations": pairs, "finalizers": texts, "generation": apicel.IntType,
			"creationTimestamp": text, "deletionTimestamp": text, "deletionGracePeriodSeconds": apicel.IntType,
		}.decl(),
		"spec":   fields{"finalizers": texts}.decl(),
		"status": fields{"phase": text, "conditions": apicel.NewListType(condition, -1)}.decl(),
	}.decl().MaybeAssignTypeName("kubernetes.Namespace")
}

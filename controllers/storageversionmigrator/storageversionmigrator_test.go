package storageversionmigrator_test

import (
	"context"
	"testing"
	"time"

	migrationv1 "k8s.io/api/storagemigration/v1"
	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"skiff/apiserver/apiservertest"
	"skiff/controllers/loop"
	"skiff/controllers/storageversionmigrator"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return ok(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// widgets is a definition in two versions, of which one is stored.
func widgets(stored string) *extensionsv1.CustomResourceDefinition {
	crd := &extensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"}, Spec: extensionsv1.CustomResourceDefinitionSpec{
		Group: "example.com", Scope: extensionsv1.NamespaceScoped, Names: extensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Kind: "Widget"},
	}}
	for _, name := range []string{"v1", "v2"} {
		crd.Spec.Versions = append(crd.Spec.Versions, extensionsv1.CustomResourceDefinitionVersion{Name: name, Served: true, Storage: name == stored,
			Schema: &extensionsv1.CustomResourceValidation{OpenAPIV3Schema: &extensionsv1.JSONSchemaProps{Type: "object"}}})
	}
	return crd
}

// The controller needs no more rights than its role has. Objects that are stored in
// the old version are written, those that are not stay as they are.
//
// Covers: api.custom-versions
func TestMigration(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	config := s.As(t, "system:serviceaccount:kube-system:storage-version-migrator-controller", "system:serviceaccounts", "system:authenticated")
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := storageversionmigrator.New(storageversionmigrator.Config{Parts: loop.Parts{Client: client, Informers: factory}, Metadata: metadata.NewForConfigOrDie(config)})
	if err != nil {
		t.Fatal(err)
	}
	apiservertest.RunController(t, factory, c)

	crds := extensionsclient.NewForConfigOrDie(s.Admin).ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Create(t.Context(), widgets("v1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	objects := s.Dynamic.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}).Namespace("default")
	create := func(name string) string {
		t.Helper()
		var got *unstructured.Unstructured
		eventually(t, "creating "+name, func() bool {
			var err error
			got, err = objects.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": map[string]any{"a": "b"}}}, metav1.CreateOptions{})
			return err == nil
		})
		return got.GetResourceVersion()
	}
	oldVersion := create("old")
	// hash tells the version that is stored, which the server changes a little later.
	hash := func() string {
		list, err := s.Client.Discovery().ServerResourcesForGroupVersion("example.com/v1")
		if err != nil || len(list.APIResources) == 0 {
			return ""
		}
		return list.APIResources[0].StorageVersionHash
	}
	before := hash()
	crd, err := crds.Get(t.Context(), "widgets.example.com", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	crd.Spec.Versions = widgets("v2").Spec.Versions
	if _, err := crds.Update(t.Context(), crd, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new version", func() bool { return hash() != "" && hash() != before })
	newVersion := create("new")

	migrate := func(name, group, resource string) *migrationv1.StorageVersionMigration {
		t.Helper()
		migrations := s.Client.StoragemigrationV1().StorageVersionMigrations()
		if _, err := migrations.Create(t.Context(), &migrationv1.StorageVersionMigration{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: migrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: group, Resource: resource}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		var got *migrationv1.StorageVersionMigration
		eventually(t, "the end of "+name, func() bool {
			var err error
			got, err = migrations.Get(t.Context(), name, metav1.GetOptions{})
			return err == nil && (meta.IsStatusConditionTrue(got.Status.Conditions, "Succeeded") || meta.IsStatusConditionTrue(got.Status.Conditions, "Failed"))
		})
		return got
	}
	got := migrate("widgets", "example.com", "widgets")
	if !meta.IsStatusConditionTrue(got.Status.Conditions, "Succeeded") || !meta.IsStatusConditionFalse(got.Status.Conditions, "Running") || got.Status.ResourceVersion == "" {
		t.Errorf("the status is %+v", got.Status)
	}
	for name, before := range map[string]string{"old": oldVersion, "new": newVersion} {
		o, err := objects.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if written := o.GetResourceVersion() != before; written != (name == "old") {
			t.Errorf("%s was written: %v", name, written)
		}
	}
	if got := migrate("none", "example.com", "nones"); !meta.IsStatusConditionTrue(got.Status.Conditions, "Failed") {
		t.Errorf("the status of one for no resource is %+v", got.Status)
	}
	if got := migrate("built-in", "", "configmaps"); !meta.IsStatusConditionTrue(got.Status.Conditions, "Succeeded") {
		t.Errorf("the status of one for a built-in resource is %+v", got.Status)
	}
}

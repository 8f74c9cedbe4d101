package apiserver_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"skiff/apiserver/apiservertest"
)

func configMap(name string, labels map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"k": "v"}}
}

func namespace(t *testing.T, c kubernetes.Interface, name string) string {
	t.Helper()
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestLists asks for lists in every combination of resourceVersion, match,
// limit and continue.
//
// Covers: api.selectors, api.list-pages
func TestLists(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	cms := s.Client.CoreV1().ConfigMaps(namespace(t, s.Client, "lists"))
	var revs []string
	for i := range 7 {
		cm, err := cms.Create(ctx, configMap(fmt.Sprintf("c%d", i), map[string]string{"odd": strconv.Itoa(i % 2)}), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, cm.ResourceVersion)
	}
	number := func(rv string, add int64) string {
		n, err := strconv.ParseInt(rv, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatInt(n+add, 10)
	}
	last := revs[6]
	for name, tc := range map[string]struct {
		o     metav1.ListOptions
		want  []string
		fails string
		code  int32
		exact string
	}{
		"all":               {want: []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6"}},
		"any":               {o: metav1.ListOptions{ResourceVersion: "0"}, want: []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6"}},
		"not older":         {o: metav1.ListOptions{ResourceVersion: last}, want: []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6"}},
		"not older, named":  {o: metav1.ListOptions{ResourceVersion: revs[2], ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}, want: []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6"}},
		"exact":             {o: metav1.ListOptions{ResourceVersion: revs[2], ResourceVersionMatch: metav1.ResourceVersionMatchExact}, want: []string{"c0", "c1", "c2"}, exact: revs[2]},
		"exact with limit":  {o: metav1.ListOptions{ResourceVersion: revs[4], ResourceVersionMatch: metav1.ResourceVersionMatchExact, Limit: 2}, want: []string{"c0", "c1"}, exact: revs[4]},
		"limit and version": {o: metav1.ListOptions{ResourceVersion: revs[3], Limit: 2}, want: []string{"c0", "c1"}},
		"labels":            {o: metav1.ListOptions{LabelSelector: "odd=1"}, want: []string{"c1", "c3", "c5"}},
		"label sets":        {o: metav1.ListOptions{LabelSelector: "odd in (0),odd notin (2),!none"}, want: []string{"c0", "c2", "c4", "c6"}},
		"field":             {o: metav1.ListOptions{FieldSelector: "metadata.name=c3"}, want: []string{"c3"}},
		"fields not":        {o: metav1.ListOptions{FieldSelector: "metadata.name!=c3,metadata.namespace=lists", LabelSelector: "odd=1"}, want: []string{"c1", "c5"}},
		"limit and labels":  {o: metav1.ListOptions{LabelSelector: "odd=1", Limit: 2}, want: []string{"c1", "c3"}},
		"exact zero":        {o: metav1.ListOptions{ResourceVersion: "0", ResourceVersionMatch: metav1.ResourceVersionMatchExact}, fails: `resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"`, code: 422},
		"match alone":       {o: metav1.ListOptions{ResourceVersionMatch: metav1.ResourceVersionMatchExact}, fails: "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided", code: 422},
		"no match":          {o: metav1.ListOptions{ResourceVersion: last, ResourceVersionMatch: "x"}, fails: `resourceVersionMatch: Unsupported value: "x": supported values: "Exact", "NotOlderThan", ""`, code: 422},
		"no version":        {o: metav1.ListOptions{ResourceVersion: "x"}, fails: `Invalid value: "x"`, code: 400},
		"bad continue":      {o: metav1.ListOptions{Continue: "x", Limit: 1}, fails: "continue key is not valid", code: 400},
		"bad labels":        {o: metav1.ListOptions{LabelSelector: "a=b=c"}, fails: `found '=', expected: ',' or 'end of string'`, code: 400},
		"bad fields":        {o: metav1.ListOptions{FieldSelector: "spec.x=1"}, fails: `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`, code: 400},
		"initial events":    {o: metav1.ListOptions{SendInitialEvents: new(bool)}, fails: "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list", code: 422},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := cms.List(ctx, tc.o)
			if tc.fails != "" {
				var st apierrors.APIStatus
				ok := err != nil && asStatus(err, &st)
				if !ok || !contains(err.Error(), tc.fails) || st.Status().Code != tc.code {
					t.Fatalf("got %v (%+v), want %d %s", err, st, tc.code, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range l.Items {
				if l.Items[i].Name != "kube-root-ca.crt" {
					got = append(got, l.Items[i].Name)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if tc.exact != "" && l.ResourceVersion != tc.exact {
				t.Errorf("the list is of %s, want %s", l.ResourceVersion, tc.exact)
			}
			if tc.o.Limit > 0 && l.Continue == "" {
				t.Error("a cut list has no continue token")
			}
			if tc.o.Limit > 0 && tc.o.LabelSelector == "" && (l.RemainingItemCount == nil || *l.RemainingItemCount == 0) {
				t.Errorf("a cut list has %v items left", l.RemainingItemCount)
			}
			if tc.o.Limit > 0 && tc.o.LabelSelector != "" && l.RemainingItemCount != nil {
				t.Errorf("a selected list has %d items left", *l.RemainingItemCount)
			}
		})
	}
	t.Run("ahead", func(t *testing.T) {
		ahead := number(last, 1000000)
		for _, match := range []string{"", "&resourceVersionMatch=Exact", "&resourceVersionMatch=NotOlderThan"} {
			a := s.Call(t, "GET", "/api/v1/namespaces/lists/configmaps?resourceVersion="+ahead+match, "")
			if a.Code != 504 || !contains(string(a.Body), "Too large resource version: "+ahead+", current: ") || a.Header.Get("Retry-After") != "1" {
				t.Errorf("%s: %d %s", match, a.Code, a.Body)
			}
		}
	})
	t.Run("pages see one moment", func(t *testing.T) {
		var got []string
		o := metav1.ListOptions{Limit: 3}
		first := ""
		for page := 0; ; page++ {
			l, err := cms.List(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if page == 0 {
				first = l.ResourceVersion
				if _, err := cms.Create(ctx, configMap("c65", nil), metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := cms.Delete(ctx, "c5", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if l.ResourceVersion != first {
				t.Errorf("page %d is of %s, want %s", page, l.ResourceVersion, first)
			}
			for i := range l.Items {
				got = append(got, l.Items[i].Name)
			}
			if o.Continue = l.Continue; o.Continue == "" {
				break
			}
		}
		if want := []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("continue with a version", func(t *testing.T) {
		l, err := cms.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = cms.List(ctx, metav1.ListOptions{Limit: 1, Continue: l.Continue, ResourceVersion: "5"})
		if !apierrors.IsBadRequest(err) || !contains(err.Error(), "specifying resource version is not allowed when using continue") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("get of versions", func(t *testing.T) {
		if _, err := cms.Get(ctx, "c0", metav1.GetOptions{ResourceVersion: "0"}); err != nil {
			t.Error(err)
		}
		if _, err := cms.Get(ctx, "c0", metav1.GetOptions{ResourceVersion: last}); err != nil {
			t.Error(err)
		}
		if _, err := cms.Get(ctx, "none", metav1.GetOptions{}); err == nil || err.Error() != `configmaps "none" not found` {
			t.Errorf("got %v", err)
		}
	})
}

// next is the next event that is no bookmark, or fails.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event within 20 s")
	}
	return watch.Event{}
}

func told(e watch.Event) string {
	if m, ok := e.Object.(metav1.Object); ok {
		return string(e.Type) + " " + m.GetName()
	}
	return string(e.Type)
}

func expect(t *testing.T, w watch.Interface, want ...string) {
	t.Helper()
	for _, s := range want {
		if got := told(next(t, w)); got != s {
			t.Fatalf("got event %q, want %q", got, s)
		}
	}
}

// TestWatches follows changes in every way that a client can ask for them.
//
// Covers: api.watch
func TestWatches(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	cms := s.Client.CoreV1().ConfigMaps(namespace(t, s.Client, "watches"))
	a, err := cms.Create(ctx, configMap("a", map[string]string{"l": "1"}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := cms.Create(ctx, configMap("b", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	open := func(t *testing.T, o metav1.ListOptions) watch.Interface {
		t.Helper()
		w, err := cms.Watch(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return w
	}
	t.Run("from a version", func(t *testing.T) {
		expect(t, open(t, metav1.ListOptions{ResourceVersion: a.ResourceVersion}), "ADDED b")
	})
	t.Run("from anywhere", func(t *testing.T) {
		expect(t, open(t, metav1.ListOptions{ResourceVersion: "0"}), "ADDED a", "ADDED b")
		expect(t, open(t, metav1.ListOptions{}), "ADDED a", "ADDED b")
	})
	t.Run("initial events", func(t *testing.T) {
		w := open(t, metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
		expect(t, w, "ADDED a", "ADDED b")
		e := next(t, w)
		m, ok := e.Object.(*corev1.ConfigMap)
		if e.Type != watch.Bookmark || !ok || m.Annotations[metav1.InitialEventsAnnotationKey] != "true" || m.ResourceVersion == "" {
			t.Errorf("the end of the initial events: %+v", e)
		}
		w = open(t, metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, ResourceVersion: b.ResourceVersion, LabelSelector: "l=1"})
		expect(t, w, "ADDED a", "BOOKMARK ")
	})
	t.Run("no initial events", func(t *testing.T) {
		w := open(t, metav1.ListOptions{SendInitialEvents: &no, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
		if _, err := cms.Create(ctx, configMap("new", nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(t, w, "ADDED new")
		if err := cms.Delete(ctx, "new", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(t, w, "DELETED new")
	})
	t.Run("in and out of a selection", func(t *testing.T) {
		l, err := cms.List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w := open(t, metav1.ListOptions{ResourceVersion: l.ResourceVersion, LabelSelector: "l=1"})
		for _, labels := range []map[string]string{{"l": "2"}, {"l": "1"}, {"l": "1", "m": "1"}} {
			cur, err := cms.Get(ctx, "a", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			cur.Labels = labels
			if _, err := cms.Update(ctx, cur, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		gone := next(t, w)
		if told(gone) != "DELETED a" || gone.Object.(*corev1.ConfigMap).Labels["l"] != "1" {
			t.Errorf("left the selection: %s %+v", told(gone), gone.Object)
		}
		expect(t, w, "ADDED a", "MODIFIED a")
		if err := cms.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		e := next(t, w)
		if told(e) != "DELETED a" {
			t.Errorf("got %s", told(e))
		}
		if e.Object.(*corev1.ConfigMap).ResourceVersion == l.ResourceVersion {
			t.Error("a deletion has the version of the last write")
		}
	})
	t.Run("ends in time", func(t *testing.T) {
		one := int64(1)
		w := open(t, metav1.ListOptions{TimeoutSeconds: &one, ResourceVersion: b.ResourceVersion, FieldSelector: "metadata.name=none"})
		select {
		case _, ok := <-w.ResultChan():
			if ok {
				t.Error("an event")
			}
		case <-time.After(20 * time.Second):
			t.Error("the watch did not end")
		}
	})
	t.Run("bookmarks", func(t *testing.T) {
		w := open(t, metav1.ListOptions{AllowWatchBookmarks: true, ResourceVersion: b.ResourceVersion, FieldSelector: "metadata.name=none", TimeoutSeconds: ptr(int64(3))})
		e := next(t, w)
		if e.Type != watch.Bookmark {
			t.Errorf("got %s", told(e))
		}
	})
	for name, tc := range map[string]struct {
		query, want string
		code        int
	}{
		"initial without match": {"sendInitialEvents=true", `resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`, 422},
		"match without initial": {"resourceVersionMatch=NotOlderThan&resourceVersion=1", `resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided`, 422},
		"bad version":           {"resourceVersion=x", `Invalid value`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.Call(t, "GET", "/api/v1/namespaces/watches/configmaps?watch=1&"+tc.query, "")
			if a.Code != tc.code || !contains(string(a.Body), tc.want) {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		})
	}
	t.Run("one name by the old path", func(t *testing.T) {
		q := url.Values{"timeoutSeconds": {"1"}}
		a := s.Call(t, "GET", "/api/v1/watch/namespaces/watches/configmaps/b?"+q.Encode(), "")
		if a.Code != 200 || !contains(string(a.Body), `"ADDED"`) {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("protobuf", func(t *testing.T) {
		cfg := rest.CopyConfig(s.Admin)
		cfg.ContentType, cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"
		w, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().ConfigMaps("watches").Watch(ctx, metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		expect(t, w, "ADDED b", "BOOKMARK ")
	})
	t.Run("an informer", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		added := make(chan string, 100)
		lw := cache.NewFilteredListWatchFromClient(s.Client.CoreV1().RESTClient(), "configmaps", "watches", func(*metav1.ListOptions) {})
		inf := cache.NewSharedInformer(lw, &corev1.ConfigMap{}, 0)
		if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { added <- o.(*corev1.ConfigMap).Name }}); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); inf.RunWithContext(ctx) }()
		if got := <-added; got != "b" {
			t.Errorf("got %s", got)
		}
		cancel()
		<-done
	})
}

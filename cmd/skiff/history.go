package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"skiff/client/past"
	"skiff/cluster/layout"
)

// historyFlags are what the history commands have in common.
type historyFlags struct {
	root, kubeconfig, namespace string
}

func (o *historyFlags) add(cmd *cobra.Command) {
	addRoot(cmd, &o.root)
	cmd.Flags().StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "how the API is reached; default the administrator's of the node below --root")
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "default", "the namespace")
}

// open connects, and finds the resource where one is named.
func (o *historyFlags) open(resource string) (*past.Client, past.Resource, error) {
	path := o.kubeconfig
	if path == "" {
		l, err := layout.New(o.root)
		if err != nil {
			return nil, past.Resource{}, err
		}
		path = l.AdminConf()
	}
	api, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, past.Resource{}, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	c, err := past.New(api)
	if err != nil || resource == "" {
		return c, past.Resource{}, err
	}
	r, err := c.Resolve(resource)
	if !r.Namespaced {
		o.namespace = ""
	}
	return c, r, err
}

func historyCommand() *cobra.Command {
	var o historyFlags
	var deleted, all bool
	var revision int64
	var audit []string
	cmd := &cobra.Command{
		Use: "history RESOURCE [NAME]", Short: "Show the changes of an object that the store has kept, or what was deleted", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, r, err := o.open(args[0])
			if err != nil {
				return err
			}
			var h *past.History
			switch {
			case len(args) == 2:
				h, err = c.Changes(cmd.Context(), r, o.namespace, args[1])
			case deleted:
				h, err = c.Deleted(cmd.Context(), r, o.namespace)
			default:
				err = errors.New("name an object, or give --deleted for those that are gone")
			}
			if err != nil {
				return err
			}
			if err := addUsers(h, r, o.namespace, audit); err != nil {
				return err
			}
			if revision > 0 {
				return printRevision(cmd.OutOrStdout(), h, revision)
			}
			return printHistory(cmd.OutOrStdout(), h, all)
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&deleted, "deleted", false, "list the objects that are gone and can be brought back")
	cmd.Flags().BoolVar(&all, "all", false, "show changes of the status alone too")
	cmd.Flags().Int64Var(&revision, "revision", 0, "print the object as it was at this revision")
	cmd.Flags().StringArrayVar(&audit, "audit-log", nil, "a file of the API server's --audit-log-path that says which user changed it; may be given several times")
	return cmd
}

// addUsers adds the users that audit logs name.
func addUsers(h *past.History, r past.Resource, namespace string, logs []string) error {
	var requests []past.Request
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		more, err := past.ReadAudit(f, r, namespace)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		requests = append(requests, more...)
	}
	past.Attribute(h.Items, requests)
	return nil
}

// by says who changed an object, with which of its managers.
func by(o *past.Object) string {
	managers := strings.Join(o.By, ",")
	if o.User != "" && managers != "" {
		return o.User + " (" + managers + ")"
	}
	return o.User + managers
}

func printHistory(out io.Writer, h *past.History, all bool) error {
	if len(h.Items) == 0 {
		fmt.Fprintln(out, "No change is kept")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "REVISION\tTIME\tNAME\tCHANGE\tBY\tFIELDS")
	var before unstructured.Unstructured
	for i := range h.Items {
		item := &h.Items[i]
		now, err := item.Decode()
		if err != nil {
			return err
		}
		change, fields := "update", changed(before, now)
		if i == 0 {
			fields = nil // what was before is not kept
		}
		switch {
		case item.Deleted:
			change, fields = "delete", nil
		case item.Created:
			change, fields = "create", nil
		}
		if !all && change == "update" && slices.Equal(fields, []string{"status"}) {
			before = now
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", item.Revision, item.Time, item.Name, change, by(item), strings.Join(fields, ","))
		before = now
	}
	return w.Flush()
}

// changed are the top fields that differ, and of metadata those below.
func changed(a, b unstructured.Unstructured) []string {
	var out []string
	for key := range union(a.Object, b.Object) {
		if key != "metadata" {
			if !equal(a.Object[key], b.Object[key]) {
				out = append(out, key)
			}
			continue
		}
		before, _ := a.Object[key].(map[string]any)
		after, _ := b.Object[key].(map[string]any)
		for name := range union(before, after) {
			if name != "resourceVersion" && name != "managedFields" && name != "generation" && !equal(before[name], after[name]) {
				out = append(out, "metadata."+name)
			}
		}
	}
	slices.Sort(out)
	return out
}

func union(a, b map[string]any) map[string]struct{} {
	out := map[string]struct{}{}
	for _, m := range []map[string]any{a, b} {
		for key := range m {
			out[key] = struct{}{}
		}
	}
	return out
}

func equal(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func printRevision(out io.Writer, h *past.History, revision int64) error {
	for i := range h.Items {
		if item := &h.Items[i]; item.Revision == revision {
			b, err := yaml.JSONToYAML(item.Object)
			if err != nil {
				return err
			}
			_, err = out.Write(b)
			return err
		}
	}
	return fmt.Errorf("the object did not change at revision %d: see `skiff history` without --revision", revision)
}

func diffCommand() *cobra.Command {
	var o historyFlags
	var from, to string
	cmd := &cobra.Command{
		Use: "diff RESOURCE [NAME] --from REVISION|TIME", Short: "Compare an object, or a namespace's objects of a resource, with how they were", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, r, err := o.open(args[0])
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			then, lost, err := at(cmd, c, r, o.namespace, name, from)
			if err != nil {
				return err
			}
			var now []unstructured.Unstructured
			if to == "" {
				now, err = c.Now(cmd.Context(), r, o.namespace, name)
			} else {
				var more []string
				now, more, err = at(cmd, c, r, o.namespace, name, to)
				lost = append(lost, more...)
			}
			if err != nil {
				return err
			}
			warnLost(cmd, lost)
			return printDiff(cmd.OutOrStdout(), then, now)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&from, "from", "", "a revision, or a time such as 2026-01-02T15:04:05Z")
	cmd.Flags().StringVar(&to, "to", "", "another one; default now")
	if err := cmd.MarkFlagRequired("from"); err != nil {
		cobra.CheckErr(err)
	}
	return cmd
}

// at are the objects at a revision or time.
func at(cmd *cobra.Command, c *past.Client, r past.Resource, namespace, name, when string) ([]unstructured.Unstructured, []string, error) {
	h, err := c.At(cmd.Context(), r, namespace, name, when)
	if err != nil {
		return nil, nil, err
	}
	out := make([]unstructured.Unstructured, len(h.Items))
	for i := range h.Items {
		if out[i], err = h.Items[i].Decode(); err != nil {
			return nil, nil, err
		}
	}
	return out, h.Lost, nil
}

func warnLost(cmd *cobra.Command, lost []string) {
	if len(lost) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "not kept, since they change too often: %s\n", strings.Join(lost, ", "))
	}
}

// printDiff writes the differences of the objects by name.
func printDiff(out io.Writer, then, now []unstructured.Unstructured) error {
	texts := map[string][2]string{}
	for side, objects := range [][]unstructured.Unstructured{then, now} {
		for i := range objects {
			u := objects[i].DeepCopy()
			unstructured.RemoveNestedField(u.Object, "status") // it follows by itself
			for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
				unstructured.RemoveNestedField(u.Object, "metadata", field)
			}
			b, err := yaml.Marshal(u.Object)
			if err != nil {
				return err
			}
			name := u.GetName()
			if ns := u.GetNamespace(); ns != "" {
				name = ns + "/" + name
			}
			pair := texts[name]
			pair[side] = string(b)
			texts[name] = pair
		}
	}
	var names []string
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		err := difflib.WriteUnifiedDiff(out, difflib.UnifiedDiff{
			A: difflib.SplitLines(texts[name][0]), B: difflib.SplitLines(texts[name][1]), FromFile: name + " (then)", ToFile: name, Context: 3,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

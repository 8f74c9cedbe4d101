package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"skiff/client/past"
)

func undeleteCommand() *cobra.Command {
	var o historyFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use: "undelete RESOURCE NAME", Short: "Make a deleted object again, with the content it had", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, r, err := o.open(args[0])
			if err != nil {
				return err
			}
			h, err := c.Changes(cmd.Context(), r, o.namespace, args[1])
			if err != nil {
				return err
			}
			if len(h.Items) == 0 || !h.Items[len(h.Items)-1].Deleted || len(h.Items[len(h.Items)-1].Object) == 0 {
				return fmt.Errorf("%s %q was not deleted within the history that is kept: `skiff history %s --deleted` lists what can be brought back", r.Resource, args[1], args[0])
			}
			was, err := h.Items[len(h.Items)-1].Decode()
			if err != nil {
				return err
			}
			step := past.Step{Resource: r, Action: past.Create, Object: past.Revive(&was)}
			return take(cmd, c, []past.Step{step}, dryRun)
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the server check it, and write nothing")
	return cmd
}

func rewindCommand() *cobra.Command {
	var o historyFlags
	var to string
	var dryRun, prune bool
	cmd := &cobra.Command{
		Use: "rewind (RESOURCE NAME | namespace NAME) --to REVISION|TIME", Short: "Bring an object, or a namespace, back to how it was, as new writes",
		Long: `Bring an object, or all objects of a namespace, back to how they were.

What is written are new changes through the API: admission and quotas hold, and
controllers follow. Objects that others made, such as the pods of a Deployment,
are left to these. Of a namespace, what the cluster makes by itself (events,
leases, endpoints, pods) stays as it is.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "namespace" || args[0] == "ns" {
				o.namespace = args[1]
				c, _, err := o.open("")
				if err != nil {
					return err
				}
				return rewindNamespace(cmd, c, o.namespace, to, prune, dryRun)
			}
			c, r, err := o.open(args[0])
			if err != nil {
				return err
			}
			steps, err := planRewind(cmd, c, r, o.namespace, args[1], to, prune)
			if err != nil {
				return err
			}
			return take(cmd, c, steps, dryRun)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&to, "to", "", "a revision, or a time such as 2026-01-02T15:04:05Z")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove what was not there then")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the server check it, and write nothing")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		cobra.CheckErr(err)
	}
	return cmd
}

func planRewind(cmd *cobra.Command, c *past.Client, r past.Resource, namespace, name, to string, prune bool) ([]past.Step, error) {
	then, lost, err := at(cmd, c, r, namespace, name, to)
	if err != nil {
		return nil, err
	}
	warnLost(cmd, lost)
	now, err := c.Now(cmd.Context(), r, namespace, name)
	if err != nil {
		return nil, err
	}
	if name != "" && len(then) == 0 && len(lost) == 0 && len(now) == 0 {
		return nil, fmt.Errorf("%s %q is not there now and was not then", r.Resource, name)
	}
	if name != "" && len(then) == 0 && len(lost) == 0 && !prune {
		return nil, fmt.Errorf("%s %q was not there then: --prune removes it", r.Resource, name)
	}
	// A name that is lost is not known to have been absent.
	kept := now[:0]
	for _, is := range now {
		if !named(lost, is) {
			kept = append(kept, is)
		}
	}
	return past.Plan(r, kept, then, prune), nil
}

func named(lost []string, u unstructured.Unstructured) bool {
	for _, name := range lost {
		if name == u.GetName() || name == u.GetNamespace()+"/"+u.GetName() {
			return true
		}
	}
	return false
}

func rewindNamespace(cmd *cobra.Command, c *past.Client, namespace, to string, prune, dryRun bool) error {
	resources, err := c.Rewindable()
	if err != nil {
		return err
	}
	var steps []past.Step
	for _, r := range resources {
		more, err := planRewind(cmd, c, r, namespace, "", to, prune)
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsBadRequest(err) {
			continue // of an aggregated server, which keeps no past here
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.Resource, err)
		}
		steps = append(steps, more...)
	}
	return take(cmd, c, steps, dryRun)
}

// take makes the steps. One that fails does not keep the others from being made.
func take(cmd *cobra.Command, c *past.Client, steps []past.Step, dryRun bool) error {
	note := ""
	if dryRun {
		note = " (dry run)"
	}
	var errs []error
	for i := range steps {
		if err := c.Do(cmd.Context(), &steps[i], dryRun); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s%s\n", &steps[i], note)
	}
	if len(steps) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "Nothing differs")
	}
	return errors.Join(errs...)
}

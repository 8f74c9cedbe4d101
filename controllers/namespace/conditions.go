package namespace

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Findings is what one pass over a namespace has met.
type Findings struct {
	// Discovery is why some groups could not be listed.
	Discovery error
	// Parsing is which group versions had no valid name.
	Parsing error
	// Content is what could not be deleted.
	Content []error
	// Remaining counts what is left, by resource.group.
	Remaining map[string]int
	// Finalizers counts what holds the remaining objects.
	Finalizers map[string]int

	wait time.Duration
}

func (f Findings) remain() bool { return len(f.Remaining) > 0 }

func (f Findings) failure() error {
	return errors.Join(f.Discovery, f.Parsing, errors.Join(f.Content...))
}

// NextConditions shows the findings in the namespace's status.
func NextConditions(old []v1.NamespaceCondition, f Findings, now time.Time) []v1.NamespaceCondition {
	out := slices.Clone(old)
	set := func(kind v1.NamespaceConditionType, bad bool, reason, message, okReason, okMessage string) {
		c := v1.NamespaceCondition{Type: kind, Status: v1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
		if !bad {
			c.Status, c.Reason, c.Message = v1.ConditionFalse, okReason, okMessage
		}
		i := slices.IndexFunc(out, func(o v1.NamespaceCondition) bool { return o.Type == kind })
		switch {
		case i < 0:
			out = append(out, c)
		case out[i].Status != c.Status || out[i].Reason != c.Reason || out[i].Message != c.Message:
			out[i] = c
		}
	}
	set(v1.NamespaceDeletionDiscoveryFailure, f.Discovery != nil, "DiscoveryFailed",
		fmt.Sprintf("Discovery failed for some groups, 1 failing: %v", f.Discovery),
		"ResourcesDiscovered", "All resources successfully discovered")
	set(v1.NamespaceDeletionGVParsingFailure, f.Parsing != nil, "GroupVersionParsingFailed",
		fmt.Sprintf("Unable to parse group versions: %v", f.Parsing),
		"ParsedGroupVersions", "All legacy kube types successfully parsed")
	set(v1.NamespaceDeletionContentFailure, len(f.Content) > 0, "ContentDeletionFailed",
		fmt.Sprintf("Failed to delete all resource types, %d remaining: %v", len(f.Content), strings.Join(texts(f.Content), ", ")),
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	set(v1.NamespaceContentRemaining, len(f.Remaining) > 0, "SomeResourcesRemain",
		"Some resources are remaining: "+counted(f.Remaining, "%s has %d resource instances"),
		"ContentRemoved", "All content successfully removed")
	set(v1.NamespaceFinalizersRemaining, len(f.Finalizers) > 0, "SomeFinalizersRemain",
		"Some content in the namespace has finalizers remaining: "+counted(f.Finalizers, "%s in %d resource instances"),
		"ContentHasNoFinalizers", "All content-preserving finalizers finished")
	return out
}

func texts(errs []error) []string {
	out := make([]string, len(errs))
	for i, err := range errs {
		out[i] = err.Error()
	}
	slices.Sort(out)
	return out
}

func counted(m map[string]int, format string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf(format, k, m[k]))
	}
	return strings.Join(out, ", ")
}

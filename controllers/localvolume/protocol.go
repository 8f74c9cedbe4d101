// Package localvolume is the node's side of the built-in provisioner: it makes
// and removes the directories of local volumes. The controller and the node
// talk through annotations of the Node object, which each may write under the
// default roles: no node needs rights over volumes.
package localvolume

import (
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Annotations of a Node; but for Directory each holds names of volumes, separated
// by commas.
const (
	// Make asks the node to have the directories.
	Make = "volumes.skiff.io/make"
	// Reclaim asks it to remove them with what they hold.
	Reclaim = "volumes.skiff.io/reclaim"
	// Reclaimed is the node's answer: those that are gone.
	Reclaimed = "volumes.skiff.io/reclaimed"
	// Directory is where the node has them; nodes below a root folder of their
	// own have theirs there.
	Directory = "volumes.skiff.io/directory"
)

// DirectoryOf is where the node has its volumes, or the given one where it has
// not said so.
func DirectoryOf(node *v1.Node, otherwise string) string {
	if dir := node.Annotations[Directory]; usable(dir) {
		return filepath.Clean(dir)
	}
	return otherwise
}

// usable says whether volumes may be below a directory.
func usable(dir string) bool { return filepath.IsAbs(dir) && filepath.Clean(dir) != "/" }

// Names reads an annotation's value; names that are no single path element are
// left out.
func Names(value string) []string {
	var out []string
	for _, n := range strings.Split(value, ",") {
		if valid(n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func valid(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// Value is the annotation's value for the names.
func Value(names []string) string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return strings.Join(slices.Compact(sorted), ",")
}

// Package framework holds the contract between the scheduler and its plugins:
// the extension points, the status they answer with, the state of one
// scheduling cycle, and the view of nodes and pods that they decide on.
//
// A plugin is a value with a Name that implements any of the extension point
// interfaces. Decisions read only the snapshot and the cycle state; only the
// points from Reserve on may act on the cluster.
package framework

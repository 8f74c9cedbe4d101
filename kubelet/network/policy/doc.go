// Package policy enforces NetworkPolicies for the pods of a node.
//
// Every packet from or to a pod is led on by the host, so one nftables chain
// sees it all: a map leads from a pod's address to a chain with the rules of the
// policies that select it. What the chains and sets hold is computed from the
// API's objects as a value; the difference to what was written last goes to the
// kernel as one transaction.
//
// A node's own processes always reach its pods, as Kubernetes demands: their
// packets have an address of the node as their source.
package policy

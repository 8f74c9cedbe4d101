// Package e2e drives a whole cluster with stock kubectl. Its tests start the
// binary that SKIFF_E2E names, below a folder and in a network namespace of their
// own, and take it away again; they touch it only through kubectl, HTTP, files
// and signals. They skip where SKIFF_E2E is not set or the user is not root.
// SKIFF_E2E_NODES says how many nodes the cluster has.
package e2e

// Package conformance checks the behaviours that Kubernetes requires of every
// cluster, against one cluster of two nodes that all its tests share. Each test
// names the behaviours it covers, by their code names without the marks
// [Conformance] and [NodeConformance], in comments of the form
//
//	// Conformance: [sig-node] Pods should get a host IP
//
// which docs/coverage.md is made from. The tests use client-go, HTTP and files on
// the nodes; like those of package e2e they skip without SKIFF_E2E or root.
package conformance

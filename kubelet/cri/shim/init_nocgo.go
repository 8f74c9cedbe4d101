//go:build !cgo

package main

// canRunContainers is false without cgo, since entering namespaces needs C
// code that runs before the Go runtime starts.
const canRunContainers = false

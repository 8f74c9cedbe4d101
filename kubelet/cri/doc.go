// Package cri is the container runtime: it implements the CRI, in memory for
// the kubelet of the same process and on a socket for anyone else.
//
// A pod's containers belong to a shim process of their own (see shimapi). All
// that the runtime must know again after its process was killed is a record on
// disk, written before the step that it describes is taken, so that a start can
// finish or undo what was begun:
//
//	StateDir/sandboxes/ID/record.json   a pod sandbox
//	StateDir/containers/ID/record.json  a container, beside its OCI
//	                                    configuration, its root and its exit
//	RunDir/ID                           the run folder of a sandbox's shim
package cri

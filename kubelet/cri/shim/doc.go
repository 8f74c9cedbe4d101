//go:build linux && cgo

// Command shim is the process that stands between skiff and the containers of
// one pod: it makes and holds the pod's namespaces, runs its containers on
// libcontainer, writes their logs, reaps them, and records how they ended
// before anyone is told. It shares nothing with skiff but the files and the
// socket that package shimapi describes, so skiff may end at any moment.
//
// The same file is a container's init (libcontainer runs /proc/self/exe init)
// and the pause process of a pod that shares its PID namespace. It is run from
// a sealed memory file, which no container can write to.
package main

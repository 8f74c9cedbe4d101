package network

import (
	"golang.org/x/sys/unix"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

func bindMount(source, target string) error { return unix.Mount(source, target, "", unix.MS_BIND, "") }

func unmount(path string) error { return unix.Unmount(path, unix.MNT_DETACH) }

// noNodes is a NodeInformer that is never asked.
type noNodes struct{}

func (noNodes) Informer() cache.SharedIndexInformer { return nil }
func (noNodes) Lister() corelisters.NodeLister      { return nil }

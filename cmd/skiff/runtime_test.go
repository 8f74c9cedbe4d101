package main

import (
	"testing"

	"skiff/cluster/layout"
	"skiff/cluster/node"
	kubeletconfig "skiff/kubelet/config"
)

func TestContainerRuntimeOfANode(t *testing.T) {
	l, err := layout.New("")
	if err != nil {
		t.Fatal(err)
	}
	const containerd, crio = "unix:///run/containerd/containerd.sock", "unix:///run/crio/crio.sock"
	for _, c := range []struct {
		name, registration, runtime, images string
		want                                endpoints
	}{
		{name: "none is named"},
		{name: "skiff's own", registration: "unix://" + l.CRISocket()},
		{name: "of the registration", registration: containerd, want: endpoints{containerd, containerd}},
		{name: "of the kubelet's configuration", registration: containerd, runtime: crio, want: endpoints{crio, crio}},
		{name: "images from another", runtime: crio, images: containerd, want: endpoints{crio, containerd}},
		{name: "skiff's own in the kubelet's configuration", registration: containerd, runtime: "unix://" + l.CRISocket()},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := kubeletconfig.Default()
			conf.ContainerRuntimeEndpoint, conf.ImageServiceEndpoint = c.runtime, c.images
			n := &node.Config{}
			n.Registration.CRISocket = c.registration
			if got := externalRuntime(l, n, conf); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

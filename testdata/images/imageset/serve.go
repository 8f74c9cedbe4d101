// Package imageset builds the images of the end-to-end tests and serves them
// over the distribution protocol.
package imageset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Serve builds the images and serves them on addr until ctx ends. It returns the
// registry's URL.
func Serve(ctx context.Context, addr string) (string, error) {
	images, err := build(ctx)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Print("images: ", err)
		}
	}()
	context.AfterFunc(ctx, func() { srv.Close() })
	for _, i := range images {
		for _, tag := range i.tags {
			ref, err := name.ParseReference(l.Addr().String()+"/"+i.repository+":"+tag, name.Insecure)
			if err != nil {
				return "", err
			}
			if err := remote.Write(ref, i.image, remote.WithContext(ctx)); err != nil {
				srv.Close()
				return "", fmt.Errorf("push %s: %w", ref, err)
			}
		}
	}
	return "http://" + l.Addr().String(), nil
}

// RegistriesYAML is the registries.yaml that makes a node take docker.io's
// images from the registry at url.
func RegistriesYAML(url string) string {
	return fmt.Sprintf("mirrors:\n  docker.io:\n    endpoint:\n      - %q\n", url)
}

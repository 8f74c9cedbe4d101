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
	"strings"
	"sync"

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
	// Images are pushed by an entrance of their own, where nothing waits.
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", errors.Join(err, l.Close())
	}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	push := func(i built) error { return write(ctx, back.Addr().String(), i) }
	serve(ctx, back, store)
	serve(ctx, l, &onDemand{store: store, make: func() error {
		i, err := buildCSIDriver(ctx)
		if err != nil {
			return err
		}
		return push(i)
	}})
	for _, i := range images {
		if err := push(i); err != nil {
			return "", err
		}
	}
	return "http://" + l.Addr().String(), nil
}

// onDemand makes the CSI driver's image when somebody first asks for it.
type onDemand struct {
	store http.Handler
	make  func() error
	once  sync.Once
}

// ServeHTTP implements http.Handler.
func (d *onDemand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v2/"+csiDriver+"/") {
		d.once.Do(func() {
			if err := d.make(); err != nil {
				log.Print("images: ", err)
			}
		})
	}
	d.store.ServeHTTP(w, r)
}

// serve answers on l until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h}
	go func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Print("images: ", err)
		}
	}()
	context.AfterFunc(ctx, func() { srv.Close() })
}

func write(ctx context.Context, host string, i built) error {
	for _, tag := range i.tags {
		ref, err := name.ParseReference(host+"/"+i.repository+":"+tag, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, i.image, remote.WithContext(ctx)); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return nil
}

// RegistriesYAML is the registries.yaml that makes a node take docker.io's
// images from the registry at url.
func RegistriesYAML(url string) string {
	return fmt.Sprintf("mirrors:\n  docker.io:\n    endpoint:\n      - %q\n", url)
}

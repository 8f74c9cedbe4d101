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
	"slices"
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
	push := func(all ...built) error {
		for _, i := range all {
			if err := write(ctx, back.Addr().String(), i); err != nil {
				return err
			}
		}
		return nil
	}
	serve(ctx, back, store)
	serve(ctx, l, &onDemand{store: store, sets: []*set{
		{prefixes: []string{csiDriver}, make: func() error {
			i, err := buildCSIDriver(ctx)
			if err != nil {
				return err
			}
			return push(i)
		}},
		{prefixes: critestPrefixes(), make: func() error {
			all, err := buildCritest(ctx)
			return errors.Join(err, push(all...))
		}},
	}})
	if err := push(images...); err != nil {
		return "", err
	}
	return "http://" + l.Addr().String(), nil
}

// onDemand makes images when somebody first asks for one of their set.
type onDemand struct {
	store http.Handler
	sets  []*set
}

// set is the images below some names.
type set struct {
	prefixes []string
	make     func() error
	once     sync.Once
}

// ServeHTTP implements http.Handler.
func (d *onDemand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, s := range d.sets {
		if !slices.ContainsFunc(s.prefixes, func(p string) bool { return strings.HasPrefix(r.URL.Path, "/v2/"+p+"/") }) {
			continue
		}
		s.once.Do(func() {
			if err := s.make(); err != nil {
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

// RegistriesYAML is the registries.yaml that makes a node take some registries'
// images from the one at url; docker.io's where none is named.
func RegistriesYAML(url string, registries ...string) string {
	if len(registries) == 0 {
		registries = []string{"docker.io"}
	}
	out := "mirrors:\n"
	for _, name := range registries {
		out += fmt.Sprintf("  %s:\n    endpoint:\n      - %q\n", name, url)
	}
	return out
}

package stats_test

import (
	"context"
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/eviction"
	"skiff/kubelet/stats"
)

// images tells where the images are after it could not for the first time.
type images struct {
	internalapi.ImageManagerService
	dir   string
	asked int
}

func (i *images) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	if i.asked++; i.asked == 1 {
		return nil, errors.New("not yet")
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: i.dir}}}}, nil
}

type noRuntime struct{ internalapi.RuntimeService }

// The runtime may walk all its files to tell what images use; what is free, which is
// looked at every few seconds, does not need that.
func TestSignalsAskTheRuntimeOnce(t *testing.T) {
	dir := t.TempDir()
	runtime := &images{dir: dir}
	p, err := stats.New(stats.Config{Runtime: noRuntime{}, Images: runtime, RootDir: dir, Pods: func() []*v1.Pod { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, true, true} {
		o, ok := p.Signals(t.Context())[eviction.ImageFsAvailable]
		if ok != want || ok && (o.Available <= 0 || o.Capacity < o.Available) {
			t.Errorf("look %d: %+v, %v", i, o, ok)
		}
	}
	if runtime.asked != 2 {
		t.Errorf("the runtime was asked %d times", runtime.asked)
	}
}

package cri

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/seccomp"
)

// seccompProfile is the system call filter that a container asks for, nil for none.
func (r *Runtime) seccompProfile(sc *runtimeapi.LinuxContainerSecurityContext, caps *specs.LinuxCapabilities) (*specs.LinuxSeccomp, error) {
	if sc.Privileged {
		return nil, nil
	}
	p := sc.GetSeccomp()
	if p == nil {
		switch old := sc.GetSeccompProfilePath(); {
		case old == "runtime/default" || old == "docker/default":
			p = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
		case strings.HasPrefix(old, "localhost/"):
			p = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: strings.TrimPrefix(old, "localhost/")}
		}
	}
	switch {
	case p == nil || p.ProfileType == runtimeapi.SecurityProfile_Unconfined:
		return nil, nil
	case p.ProfileType == runtimeapi.SecurityProfile_RuntimeDefault:
		return seccomp.Default(caps.Bounding), nil
	}
	file := p.LocalhostRef
	if !filepath.IsAbs(file) {
		file = filepath.Join(r.cfg.SeccompDir, file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot load seccomp profile %q: %w", p.LocalhostRef, err)
	}
	out := new(specs.LinuxSeccomp)
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("decoding seccomp profile %q: %w", p.LocalhostRef, err)
	}
	return out, nil
}

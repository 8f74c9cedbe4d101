//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"skiff/kubelet/cri/shimapi"

	"golang.org/x/sys/unix"
)

// makeNamespaces makes the pod's namespaces and binds each to a file of
// NamespaceDir, where containers and the pod network find it. A PID or user
// namespace lives as long as a process in it: that is the pause process.
func (p *pod) makeNamespaces() error {
	if err := os.MkdirAll(shimapi.NamespaceDir, 0o700); err != nil {
		return err
	}
	sb := p.sandbox
	userns := len(sb.UIDMappings) > 0
	if sb.PID || userns {
		if err := p.startPause(); err != nil {
			return err
		}
	}
	if sb.PID {
		if err := bindNamespace(fmt.Sprintf("/proc/%d/ns/pid", p.pause.Pid), "pid"); err != nil {
			return err
		}
	}
	if userns {
		if err := bindNamespace(fmt.Sprintf("/proc/%d/ns/user", p.pause.Pid), "user"); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go func() {
		// The thread changes its namespaces and must not be used again: it
		// ends with this goroutine, which never unlocks it.
		runtime.LockOSThread()
		done <- p.enterAndBind(userns)
	}()
	return <-done
}

// enterAndBind gives the calling thread the pod's network, IPC and UTS
// namespaces, binds them and sets what is set from inside.
func (p *pod) enterAndBind(userns bool) error {
	kinds := []struct {
		file string
		flag int
		want bool
	}{
		{"net", unix.CLONE_NEWNET, p.sandbox.Network},
		{"ipc", unix.CLONE_NEWIPC, p.sandbox.IPC},
		{"uts", unix.CLONE_NEWUTS, p.sandbox.UTS},
	}
	for _, k := range kinds {
		if !k.want {
			continue
		}
		source := "/proc/thread-self/ns/" + k.file
		if userns {
			source = fmt.Sprintf("/proc/%d/ns/%s", p.pause.Pid, k.file)
			fd, err := unix.Open(source, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s namespace: %w", k.file, err)
			}
			err = unix.Setns(fd, k.flag)
			unix.Close(fd)
			if err != nil {
				return fmt.Errorf("enter %s namespace: %w", k.file, err)
			}
		} else if err := unix.Unshare(k.flag); err != nil {
			return fmt.Errorf("make %s namespace: %w", k.file, err)
		}
		if err := bindNamespace(source, k.file); err != nil {
			return err
		}
	}
	if p.sandbox.UTS && p.sandbox.Hostname != "" {
		if err := unix.Sethostname([]byte(p.sandbox.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", p.sandbox.Hostname, err)
		}
	}
	if p.sandbox.Network {
		if err := raiseLoopback(); err != nil {
			return err
		}
	}
	for key, value := range p.sandbox.Sysctls {
		if err := setSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

func setSysctl(key, value string) error {
	// Both forms of a name are in use: net.ipv4.ip_forward and net/ipv4/conf/eth0.1/rp_filter.
	path := key
	if !strings.Contains(key, "/") {
		path = strings.ReplaceAll(key, ".", "/")
	}
	if !filepath.IsLocal(path) {
		return fmt.Errorf("sysctl %q: not a name below /proc/sys", key)
	}
	f, err := os.OpenFile(filepath.Join("/proc/sys", path), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(value)
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("set sysctl %s to %q: %w", key, value, err)
	}
	return nil
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	return nil
}

func bindNamespace(source, name string) error {
	target := filepath.Join(shimapi.NamespaceDir, name)
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s namespace: %w", name, err)
	}
	return nil
}

// startPause runs this file as the first process of the pod's PID namespace
// (and in the other new namespaces, where a user namespace must own them).
func (p *pod) startPause() error {
	sb := p.sandbox
	attr := &syscall.SysProcAttr{Setsid: true}
	if sb.PID {
		attr.Cloneflags |= unix.CLONE_NEWPID
	}
	if len(sb.UIDMappings) > 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		if sb.Network {
			attr.Cloneflags |= unix.CLONE_NEWNET
		}
		if sb.IPC {
			attr.Cloneflags |= unix.CLONE_NEWIPC
		}
		if sb.UTS {
			attr.Cloneflags |= unix.CLONE_NEWUTS
		}
		attr.UidMappings = sysIDMap(sb.UIDMappings)
		attr.GidMappings = sysIDMap(sb.GIDMappings)
		attr.GidMappingsEnableSetgroups = true
	}
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"pause", "pause"},
		Dir:         "/",
		Env:         []string{},
		SysProcAttr: attr,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the pause process: %w", err)
	}
	proc, err := shimapi.ProcOf(cmd.Process.Pid)
	if err == nil {
		err = shimapi.WriteJSON(shimapi.PauseFile, proc)
	}
	if err != nil {
		killErr := cmd.Process.Kill()
		return errors.Join(fmt.Errorf("record the pause process: %w", err), killErr)
	}
	p.pause = proc
	p.reaper.keep(proc.Pid)
	go func() {
		err := cmd.Wait()
		p.reaper.drop(proc.Pid)
		if !p.ending.Load() {
			log.Printf("pause process %s ended: %v", strconv.Itoa(proc.Pid), err)
		}
	}()
	return nil
}

func sysIDMap(in []shimapi.IDMapping) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(in))
	for i, m := range in {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return out
}

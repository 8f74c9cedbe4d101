package claims

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	healthv1 "k8s.io/kubelet/pkg/apis/dra-health/v1"
)

// healthTime is how long what a driver said of a device is believed, where it
// does not say.
const healthTime = 30 * time.Second

type deviceID struct{ driver, pool, device string }

// health is the newest that a driver said of a device.
type health struct {
	status  v1.ResourceHealthStatus
	message string
	until   time.Time
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// watchHealth follows a driver's reports, and connects again when they end.
func (m *Manager) watchHealth(ctx context.Context, d *driver) {
	client := healthv1.NewDRAResourceHealthClient(d.conn)
	for {
		stream, err := client.NodeWatchResources(ctx, &healthv1.NodeWatchResourcesRequest{}, grpc.WaitForReady(true))
		for err == nil {
			var report *healthv1.NodeWatchResourcesResponse
			if report, err = stream.Recv(); err == nil {
				m.reported(d.name, report.Devices, time.Now())
			}
		}
		if !sleep(ctx, 5*time.Second) {
			return
		}
		klog.FromContext(ctx).V(2).Info("The health reports of a DRA driver ended, will ask again", "driver", d.name, "err", err)
	}
}

// longest is how much of what a driver says of a device is kept.
const longest = 1024

func shortened(text string) string {
	if r := []rune(text); len(r) > longest {
		return string(r[:longest])
	}
	return text
}

// reported takes a report in, and tells the pods whose devices it changes.
func (m *Manager) reported(driver string, devices []*healthv1.DeviceHealth, now time.Time) {
	changed := map[deviceID]bool{}
	m.mu.Lock()
	for _, d := range devices {
		id := deviceID{driver, d.GetDevice().GetPoolName(), d.GetDevice().GetDeviceName()}
		h := health{status: v1.ResourceHealthStatusUnknown, message: shortened(d.Message), until: now.Add(healthTime)}
		switch d.Health {
		case healthv1.HealthStatus_HEALTHY:
			h.status = v1.ResourceHealthStatusHealthy
		case healthv1.HealthStatus_UNHEALTHY:
			h.status = v1.ResourceHealthStatusUnhealthy
		}
		if d.HealthCheckTimeoutSeconds > 0 {
			h.until = now.Add(time.Duration(d.HealthCheckTimeoutSeconds) * time.Second)
		}
		if old := m.health[id]; old.status != h.status || old.message != h.message {
			changed[id] = true
		}
		m.health[id] = h
	}
	pods := map[types.UID]bool{}
	for _, c := range m.claims {
		for name, list := range c.devices {
			for _, dev := range list {
				if changed[deviceID{name, dev.Pool, dev.Name}] {
					for uid := range c.pods {
						pods[uid] = true
					}
				}
			}
		}
	}
	m.mu.Unlock()
	for uid := range pods {
		m.cfg.Notify(uid)
	}
}

// Status tells how the devices of a container's claims are.
func (m *Manager) Status(pod *v1.Pod, c *v1.Container) []v1.ResourceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []v1.ResourceStatus
	now := time.Now()
	for _, ref := range uses(pod, c) {
		st := v1.ResourceStatus{Name: statusName(pod, c, ref)}
		m.each(pod, ref, func(driver string, _ *claim, dev device) {
			h := v1.ResourceHealth{ResourceID: v1.ResourceID(fmt.Sprintf("%s/%s/%s", driver, dev.Pool, dev.Name)), Health: v1.ResourceHealthStatusUnknown}
			if len(dev.CDI) > 0 {
				h.ResourceID = v1.ResourceID(dev.CDI[0])
			}
			if known, ok := m.health[deviceID{driver, dev.Pool, dev.Name}]; ok && now.Before(known.until) {
				h.Health = known.status
				if known.message != "" {
					h.Message = &known.message
				}
			}
			st.Resources = append(st.Resources, h)
		})
		if len(st.Resources) == 0 {
			continue
		}
		// Several requests may give one extended resource.
		if i := slices.IndexFunc(out, func(other v1.ResourceStatus) bool { return other.Name == st.Name }); i >= 0 {
			out[i].Resources = append(out[i].Resources, st.Resources...)
			continue
		}
		out = append(out, st)
	}
	return out
}

// statusName is how a container's status speaks of what a claim gives to it.
func statusName(pod *v1.Pod, c *v1.Container, ref v1.ResourceClaim) v1.ResourceName {
	if ref.Name == ofResources {
		for _, m := range pod.Status.ExtendedResourceClaimStatus.RequestMappings {
			if m.ContainerName == c.Name && m.RequestName == ref.Request {
				return v1.ResourceName(m.ResourceName)
			}
		}
	}
	if ref.Request != "" {
		return v1.ResourceName("claim:" + ref.Name + "/" + ref.Request)
	}
	return v1.ResourceName("claim:" + ref.Name)
}

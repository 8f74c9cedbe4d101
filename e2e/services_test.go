package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// web makes a Deployment of three pods with a Service, and a pod to ask from.
func (s *space) web() {
	s.t.Helper()
	s.apply(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: probe
          readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: udp, port: 81, targetPort: 8081, protocol: UDP}
    - {name: tcp, port: 82, targetPort: 8082}
` + "---\n" + pod("client", `"sleep"`, ""))
	s.run("rollout", "status", "deployment/web", "--timeout=90s")
	s.ready("pod/client")
	s.endpoints("web", 3)
}

// Covers: service.dns, service.ready-only
func serviceClusterIP(s *space) {
	s.web()
	ip := s.field("service/web", ".spec.clusterIP")
	// Every endpoint answers some of the requests by the cluster IP.
	s.eventually(30*time.Second, "answers of all three pods", func() error {
		out, err := s.try("", "exec", "client", "--", "/probe", "get", "http://"+ip+"/hostname", "30")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		names := strings.Fields(out)
		slices.Sort(names)
		if names = slices.Compact(names); len(names) != 3 {
			return fmt.Errorf("only %v answered", names)
		}
		return nil
	})
	for _, name := range []string{"web", "web." + s.name, "web." + s.name + ".svc", "web." + s.name + ".svc.cluster.local"} {
		if got := strings.TrimSpace(s.run("exec", "client", "--", "/probe", "lookup", name)); got != ip {
			s.t.Errorf("%s is %q, want %s", name, got, ip)
		}
	}
	s.says([]string{"web-"}, "exec", "client", "--", "/probe", "get", "http://web."+s.name+".svc.cluster.local/")
	s.says([]string{"over udp"}, "exec", "client", "--", "/probe", "udp", ip+":81", "over udp")
	s.says([]string{"over tcp"}, "exec", "client", "--", "/probe", "tcp", ip+":82", "over tcp")
	s.refused("no such host", "exec", "client", "--", "/probe", "lookup", "no-such-service."+s.name+".svc.cluster.local.")
	// A Service without endpoints refuses at once.
	s.run("create", "service", "clusterip", "empty", "--tcp=80:80")
	s.eventually(20*time.Second, "a refused connection", func() error {
		out, err := s.try("", "exec", "client", "--", "/probe", "get", "http://empty/")
		if err == nil || !strings.Contains(out, "refused") {
			return fmt.Errorf("error %v: %s", err, out)
		}
		return nil
	})
}

// serviceWithoutLostRequests replaces all pods of a Service while a client asks.
//
// Covers: service.rolling
func serviceWithoutLostRequests(s *space) {
	s.apply(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: main
          image: probe
          readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
          lifecycle: {preStop: {sleep: {seconds: 3}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
` + "---\n" + pod("client", `"sleep"`, ""))
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	s.ready("pod/client")
	s.endpoints("web", 2)
	s.until(20*time.Second, "web-", "exec", "client", "--", "/probe", "get", "http://web/")
	type result struct {
		out string
		err error
	}
	asked := make(chan result, 1)
	go func() {
		out, err := s.try("", "exec", "client", "--", "/probe", "hammer", "http://web/", "15s")
		asked <- result{out, err}
	}()
	s.run("rollout", "restart", "deployment/web")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	if r := <-asked; r.err != nil || !strings.Contains(r.out, ", 0 failed") {
		s.t.Errorf("%v: %s", r.err, r.out)
	}
}

// peers is a pod on each node.
const peers = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: peer}
spec:
  selector: {matchLabels: {app: peer}}
  template:
    metadata: {labels: {app: peer}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: probe}]
---
`

// serviceAcrossNodes asks each pod from a pod of each other node.
//
// Covers: service.across-nodes, net.overlay
func serviceAcrossNodes(s *space) {
	if s.Nodes < 2 {
		s.t.Skip("want two nodes")
	}
	s.apply(peers + `apiVersion: v1
kind: Service
metadata: {name: peer}
spec:
  selector: {app: peer}
  ports: [{port: 80, targetPort: 8080}]
`)
	s.run("rollout", "status", "daemonset/peer", "--timeout=60s")
	s.endpoints("peer", s.Nodes)
	peers := strings.Fields(s.run("get", "pods", "-l", "app=peer", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.podIP} {end}`))
	for _, from := range peers {
		name, _, _ := strings.Cut(from, "=")
		for _, to := range peers {
			want, ip, _ := strings.Cut(to, "=")
			s.until(20*time.Second, want, "exec", name, "--", "/probe", "get", "http://"+ip+":8080/hostname")
			s.says([]string{"packet"}, "exec", name, "--", "/probe", "udp", ip+":8081", "packet")
			s.until(20*time.Second, want, "exec", name, "--", "/probe", "get", "http://peer/hostname", "20")
		}
	}
}

// Covers: service.node-port
func serviceNodePort(s *space) {
	s.web()
	port := s.field("service/web", `.spec.ports[?(@.name=="http")].nodePort`)
	addresses := strings.Fields(s.run("get", "nodes", "-o", `jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}`))
	for _, address := range addresses {
		s.eventually(30*time.Second, "an answer by the node port of "+address, func() error {
			body, err := fetch("http://" + address + ":" + port + "/hostname")
			if err == nil && !strings.HasPrefix(body, "web-") {
				err = errors.New(body)
			}
			return err
		})
		s.says([]string{"web-"}, "exec", "client", "--", "/probe", "get", "http://"+address+":"+port+"/")
	}
}

// Covers: workload.service-account
func serviceAccountInPod(s *space) {
	s.run("create", "serviceaccount", "reader")
	s.run("create", "role", "reader", "--verb=list", "--resource=configmaps")
	s.run("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+s.name+":reader")
	s.apply(strings.Replace(pod("client", `"sleep"`, ""), "spec:\n", "spec:\n  serviceAccountName: reader\n", 1))
	s.ready("pod/client")
	s.eventually(30*time.Second, "an answer of the API server", func() error {
		out, err := s.try("", "exec", "client", "--", "/probe", "api", "/api/v1/namespaces/"+s.name+"/configmaps")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(out, "kube-root-ca.crt") {
			return errors.New(out)
		}
		return nil
	})
	s.refused("403 Forbidden", "exec", "client", "--", "/probe", "api", "/api/v1/namespaces/"+s.name+"/secrets")
	s.says([]string{"ey"}, "create", "token", "reader")
}

// serviceDebianServers runs servers that are not ours: Debian's redis behind its
// Service, with its data on a claim, and Debian's nginx.
//
// Covers: service.dns, workload.statefulset
func serviceDebianServers(s *space) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		s.t.Skip("want redis-server and nginx of Debian's packages in PATH")
	}
	s.apply(`apiVersion: apps/v1
kind: StatefulSet
metadata: {name: redis}
spec:
  serviceName: redis
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      containers:
        - name: redis
          image: redis
          args: [redis-server, --protected-mode, "no", --appendonly, "yes"]
          ports: [{containerPort: 6379}]
          readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1}
          volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {clusterIP: None, selector: {app: redis}, ports: [{port: 6379}]}
`)
	s.run("rollout", "status", "statefulset/redis", "--timeout=60s")
	s.run("create", "deployment", "web", "--image=nginx:1.22", "--port=80")
	s.run("expose", "deployment", "web")
	s.run("rollout", "status", "deployment/web", "--timeout=60s")
	s.says([]string{"OK"}, "exec", "redis-0", "--", "redis-cli", "-h", "redis-0.redis."+s.name+".svc.cluster.local", "set", "key", "kept")
	s.run("delete", "pod", "redis-0")
	s.run("rollout", "status", "statefulset/redis", "--timeout=60s")
	s.says([]string{"kept"}, "exec", "redis-0", "--", "redis-cli", "get", "key")
	s.says([]string{"Debian's nginx"}, "exec", "redis-0", "--", "wget", "-qO-", "http://web."+s.name)
}

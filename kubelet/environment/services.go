package environment

import (
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// ServiceVars returns the variables that tell a pod of the services: those of
// its own namespace when it wants them, and always the API server's.
func ServiceVars(services []*v1.Service, namespace string, links bool) []Var {
	chosen := map[string]*v1.Service{}
	for _, s := range services {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		switch {
		case s.Namespace == namespace && links:
			chosen[s.Name] = s
		case s.Namespace == v1.NamespaceDefault && s.Name == "kubernetes":
			if _, ok := chosen[s.Name]; !ok {
				chosen[s.Name] = s
			}
		}
	}
	names := make([]string, 0, len(chosen))
	for name := range chosen {
		names = append(names, name)
	}
	sort.Strings(names)
	var out []Var
	for _, name := range names {
		out = append(out, oneService(chosen[name])...)
	}
	return out
}

func variableName(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
}

func oneService(s *v1.Service) []Var {
	prefix := variableName(s.Name)
	out := []Var{
		{prefix + "_SERVICE_HOST", s.Spec.ClusterIP},
		{prefix + "_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port))},
	}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			out = append(out, Var{prefix + "_SERVICE_PORT_" + variableName(p.Name), strconv.Itoa(int(p.Port))})
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = string(v1.ProtocolTCP)
		}
		port := strconv.Itoa(int(p.Port))
		url := fmt.Sprintf("%s://%s", strings.ToLower(protocol), net.JoinHostPort(s.Spec.ClusterIP, port))
		if i == 0 {
			out = append(out, Var{prefix + "_PORT", url})
		}
		long := fmt.Sprintf("%s_PORT_%s_%s", prefix, port, strings.ToUpper(protocol))
		out = append(out,
			Var{long, url},
			Var{long + "_PROTO", strings.ToLower(protocol)},
			Var{long + "_PORT", port},
			Var{long + "_ADDR", s.Spec.ClusterIP},
		)
	}
	return out
}

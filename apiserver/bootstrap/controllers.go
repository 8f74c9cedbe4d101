package bootstrap

import (
	_ "embed"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"skiff/client/ownerwatch"
)

// controllerRules are the rights of each controller: a line with its name, and below it
// lines of VERBS GROUPS RESOURCES and maybe NAMES, each separated by commas; the group
// without a name is core.
//
//go:embed controllers.txt
var controllerRules string

// controllerRoles are upstream's rights of each controller, whose service account
// in kube-system has the controller's name.
func controllerRoles() []*rbacv1.ClusterRole {
	var out []*rbacv1.ClusterRole
	for line := range strings.Lines(controllerRules) {
		text, isRule := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "\t")
		if !isRule {
			out = append(out, role("system:controller:"+text))
			continue
		}
		var parts [4][]string
		for i, list := range strings.SplitN(text, " ", len(parts)) {
			parts[i] = strings.Split(list, ",")
		}
		for i, group := range parts[1] {
			if group == "core" {
				parts[1][i] = ""
			}
		}
		r := out[len(out)-1]
		r.Rules = append(r.Rules, rule(parts[0], parts[1], parts[2], parts[3]...))
	}
	return out
}

// ownControllerRoles are the rights of controllers beyond upstream's, by the name
// of their service account.
func ownControllerRoles() map[string]*rbacv1.ClusterRole {
	c := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return role("skiff:controller:"+name, rules...)
	}
	return map[string]*rbacv1.ClusterRole{
		// The cluster's DNS is no Deployment with a Service that selects it.
		"dns-endpoints-controller": c("dns-endpoints-controller", rule(read, coreGroup, l("nodes", "services")), rule(readWrite, discovery, l("endpointslices")),
			rule(readWrite, coreGroup, l("endpoints"))),
		// Owners are watched in one stream in place of one for each kind.
		"generic-garbage-collector": c("generic-garbage-collector", paths(ownerwatch.Path)),
		"cloud-controller-manager": role("skiff:cloud-controller-manager", rule(l("delete", "get", "list", "patch", "update", "watch"), coreGroup, l("nodes")),
			rule(amend, coreGroup, l("nodes/status", "services/status")),
			rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("services")),
			tell, rule(l("create", "get", "update"), leases, l("leases"))),
	}
}

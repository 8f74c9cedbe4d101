package builtin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/always"
	"skiff/apiserver/admission/alwayspullimages"
	"skiff/apiserver/admission/certificates"
	"skiff/apiserver/admission/defaultingressclass"
	"skiff/apiserver/admission/defaultstorageclass"
	"skiff/apiserver/admission/defaulttolerationseconds"
	"skiff/apiserver/admission/denyserviceexternalips"
	"skiff/apiserver/admission/eventratelimit"
	"skiff/apiserver/admission/extendedresourcetoleration"
	"skiff/apiserver/admission/imagepolicywebhook"
	"skiff/apiserver/admission/limitpodhardantiaffinitytopology"
	"skiff/apiserver/admission/limitranger"
	"skiff/apiserver/admission/mutatingpolicy"
	"skiff/apiserver/admission/namespaceautoprovision"
	"skiff/apiserver/admission/namespaceexists"
	"skiff/apiserver/admission/namespacelifecycle"
	"skiff/apiserver/admission/noderestriction"
	"skiff/apiserver/admission/ownerreferences"
	"skiff/apiserver/admission/persistentvolumeclaimresize"
	"skiff/apiserver/admission/podnodeselector"
	"skiff/apiserver/admission/podsecurity"
	"skiff/apiserver/admission/podtolerationrestriction"
	"skiff/apiserver/admission/podtopologylabels"
	"skiff/apiserver/admission/policy"
	"skiff/apiserver/admission/priority"
	"skiff/apiserver/admission/resourcequota"
	"skiff/apiserver/admission/runtimeclass"
	"skiff/apiserver/admission/serviceaccount"
	"skiff/apiserver/admission/storageobjectinuseprotection"
	"skiff/apiserver/admission/taintnodesbycondition"
	"skiff/apiserver/admission/validatingpolicy"
	"skiff/apiserver/admission/webhook"
)

// entry is a plugin by name.
type entry struct {
	name string
	// on: it runs unless it is disabled.
	on  bool
	new func(Deps) (admission.Plugin, error)
}

// fixed is a plugin that needs nothing.
func fixed(p admission.Plugin) func(Deps) (admission.Plugin, error) {
	return func(Deps) (admission.Plugin, error) { return p, nil }
}

// made adapts a constructor that cannot fail.
func made[P admission.Plugin](f func(Deps) P) func(Deps) (admission.Plugin, error) {
	return func(d Deps) (admission.Plugin, error) { return f(d), nil }
}

// entries are all plugins, in the order in which they run.
func entries() []entry {
	return []entry{
		{always.AdmitName, false, fixed(always.Admit{})},
		{namespaceautoprovision.Name, false, made(func(d Deps) *namespaceautoprovision.Plugin {
			return namespaceautoprovision.New(d.Client, d.Informers.Core().V1().Namespaces().Lister())
		})},
		{namespacelifecycle.Name, true, made(func(d Deps) *namespacelifecycle.Plugin {
			return namespacelifecycle.New(d.Client, d.Informers.Core().V1().Namespaces().Lister())
		})},
		{namespaceexists.Name, false, made(func(d Deps) *namespaceexists.Plugin {
			return namespaceexists.New(d.Client, d.Informers.Core().V1().Namespaces().Lister())
		})},
		{limitpodhardantiaffinitytopology.Name, false, fixed(limitpodhardantiaffinitytopology.New())},
		{limitranger.Name, true, made(func(d Deps) *limitranger.Plugin {
			return limitranger.New(d.Informers.Core().V1().LimitRanges().Lister(), d.Client)
		})},
		{serviceaccount.Name, true, made(func(d Deps) *serviceaccount.Plugin {
			return serviceaccount.New(d.Client, d.Informers.Core().V1().ServiceAccounts().Lister())
		})},
		{noderestriction.Name, true, made(func(d Deps) *noderestriction.Plugin {
			return noderestriction.New(d.Client, d.Informers.Core().V1().Pods().Lister())
		})},
		{taintnodesbycondition.Name, true, made(func(Deps) taintnodesbycondition.Plugin { return taintnodesbycondition.New() })},
		{alwayspullimages.Name, false, fixed(alwayspullimages.New())},
		{imagepolicywebhook.Name, false, func(d Deps) (admission.Plugin, error) {
			return imagepolicywebhook.New(d.Configs[imagepolicywebhook.Name])
		}},
		{podsecurity.Name, true, func(d Deps) (admission.Plugin, error) {
			return podsecurity.New(d.Configs[podsecurity.Name], d.Client, d.Informers.Core().V1().Namespaces().Lister(), d.Informers.Core().V1().Pods().Lister())
		}},
		{podnodeselector.Name, false, func(d Deps) (admission.Plugin, error) {
			return podnodeselector.New(d.Configs[podnodeselector.Name], d.Client, d.Informers.Core().V1().Namespaces().Lister())
		}},
		{priority.Name, true, made(func(d Deps) *priority.Plugin {
			return priority.New(d.Client, d.Informers.Scheduling().V1().PriorityClasses().Lister())
		})},
		{defaulttolerationseconds.Name, true, made(func(Deps) defaulttolerationseconds.Plugin { return defaulttolerationseconds.New() })},
		{podtolerationrestriction.Name, false, func(d Deps) (admission.Plugin, error) {
			return podtolerationrestriction.New(d.Configs[podtolerationrestriction.Name], d.Client, d.Informers.Core().V1().Namespaces().Lister())
		}},
		{eventratelimit.Name, false, func(d Deps) (admission.Plugin, error) {
			return eventratelimit.New(d.Configs[eventratelimit.Name], d.Now)
		}},
		{storageobjectinuseprotection.Name, true, made(func(Deps) storageobjectinuseprotection.Plugin { return storageobjectinuseprotection.New() })},
		{ownerreferences.Name, false, made(func(d Deps) *ownerreferences.Plugin { return ownerreferences.New(d.Client, d.Authorizer) })},
		{extendedresourcetoleration.Name, false, fixed(extendedresourcetoleration.New())},
		{persistentvolumeclaimresize.Name, true, made(func(d Deps) *persistentvolumeclaimresize.Plugin {
			return persistentvolumeclaimresize.New(d.Informers.Storage().V1().StorageClasses().Lister())
		})},
		{runtimeclass.Name, true, made(func(d Deps) *runtimeclass.Plugin {
			return runtimeclass.New(d.Client, d.Informers.Node().V1().RuntimeClasses().Lister())
		})},
		{certificates.ApprovalName, true, made(func(d Deps) *certificates.Approval { return certificates.NewApproval(d.Authorizer) })},
		{certificates.SigningName, true, made(func(d Deps) *certificates.Signing { return certificates.NewSigning(d.Authorizer) })},
		{certificates.AttestName, true, made(func(d Deps) *certificates.Attest { return certificates.NewAttest(d.Authorizer) })},
		{certificates.SubjectRestrictionName, true, made(func(Deps) certificates.SubjectRestriction { return certificates.NewSubjectRestriction() })},
		{defaultstorageclass.Name, true, made(func(d Deps) *defaultstorageclass.Plugin {
			return defaultstorageclass.New(d.Informers.Storage().V1().StorageClasses().Lister())
		})},
		{defaultingressclass.Name, true, made(func(d Deps) *defaultingressclass.Plugin {
			return defaultingressclass.New(d.Informers.Networking().V1().IngressClasses().Lister())
		})},
		{podtopologylabels.Name, true, made(func(d Deps) *podtopologylabels.Plugin {
			return podtopologylabels.New(d.Informers.Core().V1().Nodes().Lister())
		})},
		{denyserviceexternalips.Name, false, fixed(denyserviceexternalips.New())},
		{mutatingpolicy.Name, true, func(d Deps) (admission.Plugin, error) { return mutatingpolicy.New(policies(d)) }},
		{webhook.MutatingName, true, func(d Deps) (admission.Plugin, error) {
			return webhook.NewMutating(webhook.Config{Client: d.Client, Informers: d.Informers, Authorizer: d.Authorizer})
		}},
		{validatingpolicy.Name, true, func(d Deps) (admission.Plugin, error) { return validatingpolicy.New(policies(d)) }},
		{webhook.ValidatingName, true, func(d Deps) (admission.Plugin, error) {
			return webhook.NewValidating(webhook.Config{Client: d.Client, Informers: d.Informers, Authorizer: d.Authorizer})
		}},
		{resourcequota.Name, true, func(d Deps) (admission.Plugin, error) {
			return resourcequota.New(d.Configs[resourcequota.Name], d.Client, d.Informers.Core().V1().ResourceQuotas().Lister(), d.Informers.Resource().V1().DeviceClasses().Lister(), d.Now)
		}},
		{always.DenyName, false, fixed(always.Deny{})},
	}
}

// Names lists all plugins in order.
func Names() []string {
	var out []string
	for _, e := range entries() {
		out = append(out, e.name)
	}
	return out
}

// New makes the chain: what is on by default, with enable added and disable
// taken away, which may not name the same plugin.
func New(d Deps, enable, disable []string) (admission.Chain, error) {
	if d.Client == nil || d.Informers == nil || d.Authorizer == nil {
		return admission.Chain{}, errors.New("admission: Client, Informers and Authorizer are required")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	var errs []error
	names := Names()
	for flag, list := range map[string][]string{"enable-admission-plugins": enable, "disable-admission-plugins": disable} {
		for _, n := range list {
			if !slices.Contains(names, n) {
				errs = append(errs, fmt.Errorf("%s plugin %q is unknown: use any of %s", flag, n, strings.Join(names, ", ")))
			}
		}
	}
	for _, n := range enable {
		if slices.Contains(disable, n) {
			errs = append(errs, fmt.Errorf("%v in enable-admission-plugins and disable-admission-plugins overlapped", n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return admission.Chain{}, err
	}
	var plugins []admission.Plugin
	for _, e := range entries() {
		if slices.Contains(disable, e.name) || (!e.on && !slices.Contains(enable, e.name)) {
			continue
		}
		p, err := e.new(d)
		if err != nil {
			return admission.Chain{}, fmt.Errorf("admission plugin %s: %w", e.name, err)
		}
		plugins = append(plugins, p)
	}
	return admission.NewChain(plugins...), nil
}

func policies(d Deps) policy.Config {
	return policy.Config{Dynamic: d.Dynamic, Config: webhook.Config{Client: d.Client, Informers: d.Informers, Authorizer: d.Authorizer}}
}

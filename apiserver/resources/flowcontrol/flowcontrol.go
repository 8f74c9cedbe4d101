// Package flowcontrol declares the kinds of flowcontrol.apiserver.k8s.io.
package flowcontrol

import (
	"context"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{flowSchemas(), priorityLevels()}
}

func flowSchemas() resources.Resource {
	r := resources.Kind(flowcontrolv1.GroupName, "FlowSchema", "flowschemas", false)
	r.Versions = []resources.Version{resources.HubVersion[flowcontrolv1.FlowSchema]("v1", resources.Empty[flowcontrolv1.FlowSchemaList], func(o *flowcontrolv1.FlowSchema) {
		if o.Spec.MatchingPrecedence == 0 {
			o.Spec.MatchingPrecedence = 1000
		}
	})}
	r.Columns = table.Columns(table.Name(), table.Text("PriorityLevel", "The priority level that requests go to."), table.Text("MatchingPrecedence", "The order in which schemas are tried."), table.Text("DistinguisherMethod", "How requests are told apart."), table.Age(), table.Text("MissingPL", "Whether the priority level does not exist."))
	main, view := resources.SpecStatus(resources.TypedStrategy[flowcontrolv1.FlowSchema, *flowcontrolv1.FlowSchema]{Metadata: resources.MetadataRules{NamesOnUpdate: true}, Generation: true, AllowUnconditionalUpdate: true, Validate: validateSchema, ValidateUpdate: func(ctx context.Context, o, _ *flowcontrolv1.FlowSchema) field.ErrorList {
		return validateSchema(ctx, o)
	}},
		func(o *flowcontrolv1.FlowSchema) *flowcontrolv1.FlowSchemaSpec { return &o.Spec }, func(o *flowcontrolv1.FlowSchema) *flowcontrolv1.FlowSchemaStatus { return &o.Status })
	view.ValidateUpdate = schemaStatus
	return resources.Declare(resources.Spec[flowcontrolv1.FlowSchema, *flowcontrolv1.FlowSchema]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *flowcontrolv1.FlowSchema) []any {
			method := "<none>"
			if d := o.Spec.DistinguisherMethod; d != nil {
				method = string(d.Type)
			}
			missing := "?"
			for _, c := range o.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					missing = string(c.Status)
				}
			}
			return []any{o.Name, o.Spec.PriorityLevelConfiguration.Name, int64(o.Spec.MatchingPrecedence), method, table.Since(o.CreationTimestamp), missing}
		},
	})
}

func priorityLevels() resources.Resource {
	r := resources.Kind(flowcontrolv1.GroupName, "PriorityLevelConfiguration", "prioritylevelconfigurations", false)
	r.Versions = []resources.Version{resources.HubVersion[flowcontrolv1.PriorityLevelConfiguration]("v1", resources.Empty[flowcontrolv1.PriorityLevelConfigurationList], defaultPriorityLevel)}
	r.Columns = table.Columns(table.Name(), table.Text("Type", "Whether the level is limited."), table.Text("NominalConcurrencyShares", "The level's share."), table.Text("Queues", "How many queues it has."), table.Text("HandSize", "How many queues a flow is spread over."), table.Text("QueueLengthLimit", "How long a queue may get."), table.Age())
	main, view := resources.SpecStatus(resources.TypedStrategy[flowcontrolv1.PriorityLevelConfiguration, *flowcontrolv1.PriorityLevelConfiguration]{Generation: true, Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true, Validate: validateLevel, ValidateUpdate: func(ctx context.Context, o, _ *flowcontrolv1.PriorityLevelConfiguration) field.ErrorList {
		return validateLevel(ctx, o)
	}},
		func(o *flowcontrolv1.PriorityLevelConfiguration) *flowcontrolv1.PriorityLevelConfigurationSpec {
			return &o.Spec
		}, func(o *flowcontrolv1.PriorityLevelConfiguration) *flowcontrolv1.PriorityLevelConfigurationStatus {
			return &o.Status
		})
	view.ValidateUpdate = levelStatus
	return resources.Declare(resources.Spec[flowcontrolv1.PriorityLevelConfiguration, *flowcontrolv1.PriorityLevelConfiguration]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *flowcontrolv1.PriorityLevelConfiguration) []any {
			var ncs, queues, hand, length any = "<none>", "<none>", "<none>", "<none>"
			if l := o.Spec.Limited; l != nil {
				if l.NominalConcurrencyShares != nil {
					ncs = int64(*l.NominalConcurrencyShares)
				}
				if q := l.LimitResponse.Queuing; q != nil {
					queues, hand, length = int64(q.Queues), int64(q.HandSize), int64(q.QueueLengthLimit)
				}
			}
			return []any{o.Name, string(o.Spec.Type), ncs, queues, hand, length, table.Since(o.CreationTimestamp)}
		},
	})
}

func defaultPriorityLevel(o *flowcontrolv1.PriorityLevelConfiguration) {
	zero, thirty := int32(0), int32(30)
	if e := o.Spec.Exempt; e != nil {
		if e.NominalConcurrencyShares == nil {
			e.NominalConcurrencyShares = &zero
		}
		if e.LendablePercent == nil {
			e.LendablePercent = &zero
		}
	}
	l := o.Spec.Limited
	if l == nil {
		return
	}
	if l.NominalConcurrencyShares == nil {
		l.NominalConcurrencyShares = &thirty
	}
	if l.LendablePercent == nil {
		l.LendablePercent = &zero
	}
	if q := l.LimitResponse.Queuing; q != nil {
		if q.HandSize == 0 {
			q.HandSize = 8
		}
		if q.Queues == 0 {
			q.Queues = 64
		}
		if q.QueueLengthLimit == 0 {
			q.QueueLengthLimit = 50
		}
	}
}

// Package autoscaling declares the kinds of the autoscaling group.
package autoscaling

import "skiff/apiserver/resources"

// Resources are the kinds of the group.
func Resources() []resources.Resource { return []resources.Resource{horizontalPodAutoscalers()} }

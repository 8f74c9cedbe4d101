// Package authorization declares the reviews of authorization.k8s.io.
package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"skiff/apiserver/resources"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	const group = authorizationv1.GroupName
	return []resources.Resource{
		resources.Review[authorizationv1.SubjectAccessReview](group, "SubjectAccessReview", "subjectaccessreviews", false, resources.ConnectSubjectAccessReview),
		resources.Review[authorizationv1.LocalSubjectAccessReview](group, "LocalSubjectAccessReview", "localsubjectaccessreviews", true, resources.ConnectLocalSubjectAccessReview),
		resources.Review[authorizationv1.SelfSubjectAccessReview](group, "SelfSubjectAccessReview", "selfsubjectaccessreviews", false, resources.ConnectSelfSubjectAccessReview),
		resources.Review[authorizationv1.SelfSubjectRulesReview](group, "SelfSubjectRulesReview", "selfsubjectrulesreviews", false, resources.ConnectSelfSubjectRulesReview),
	}
}

// Package authentication declares the reviews of authentication.k8s.io.
package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"skiff/apiserver/resources"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{
		resources.Review[authenticationv1.TokenReview](authenticationv1.GroupName, "TokenReview", "tokenreviews", false, resources.ConnectTokenReview),
		resources.Review[authenticationv1.SelfSubjectReview](authenticationv1.GroupName, "SelfSubjectReview", "selfsubjectreviews", false, resources.ConnectSelfSubjectReview),
	}
}

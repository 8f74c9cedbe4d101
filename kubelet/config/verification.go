package config

import (
	"slices"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/images"
)

// validateVerification checks whose credentials are to count for images that are on
// the node already.
func validateVerification(c *kubeletv1beta1.KubeletConfiguration, bad func(format string, args ...any)) {
	policies := []kubeletv1beta1.ImagePullCredentialsVerificationPolicy{
		kubeletv1beta1.NeverVerify, kubeletv1beta1.NeverVerifyPreloadedImages, kubeletv1beta1.NeverVerifyAllowlistedImages, kubeletv1beta1.AlwaysVerify,
	}
	if !slices.Contains(policies, c.ImagePullCredentialsVerificationPolicy) {
		bad("option %q specified for imagePullCredentialsVerificationPolicy. Valid options are %q", c.ImagePullCredentialsVerificationPolicy, policies)
	}
	if len(c.PreloadedImagesVerificationAllowlist) > 0 && c.ImagePullCredentialsVerificationPolicy != kubeletv1beta1.NeverVerifyAllowlistedImages {
		bad("can't set preloadedImagesVerificationAllowlist if imagePullCredentialsVerificationPolicy is not %q", kubeletv1beta1.NeverVerifyAllowlistedImages)
	}
	for _, entry := range c.PreloadedImagesVerificationAllowlist {
		if err := images.ValidAllowlist(entry); err != nil {
			bad("preloadedImagesVerificationAllowlist %q: %w", entry, err)
		}
	}
}

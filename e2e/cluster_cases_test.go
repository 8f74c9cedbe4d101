package e2e

import "testing"

// TestCluster drives one cluster through every case, the basic ones first. Each
// case has a namespace of its own.
//
// Covers: up.two-nodes, up.root
func TestCluster(t *testing.T) {
	c := start(t)
	for _, each := range []struct {
		name string
		run  func(*space)
	}{
		{"server-answers", serverAnswers},
		{"discovery-and-explain", discoveryAndExplain},
		{"every-kind", everyKind},
		{"output-formats", outputFormats},
		{"patches", patches},
		{"server-side-apply", serverSideApply},
		{"watch", watch},
		{"refusals", refusals},
		{"custom-resources", customResources},
		{"pod-from-registry", podFromRegistry},
		{"images-command", imagesCommand},
		{"pod-logs-exec-copy", podLogsExecCopy},
		{"pod-terminal-attach", podTerminalAttach},
		{"pod-port-forward", podPortForward},
		{"pod-configmap-secret", podConfigMapSecret},
		{"pod-restart", podRestart},
		{"pod-probes", podProbes},
		{"pod-graceful-end", podGracefulEnd},
		{"deployment-rollout", deploymentRollout},
		{"service-cluster-ip", serviceClusterIP},
		{"service-node-port", serviceNodePort},
		{"service-without-lost-requests", serviceWithoutLostRequests},
		{"service-across-nodes", serviceAcrossNodes},
		{"service-debian-servers", serviceDebianServers},
		{"service-load-balancer", serviceLoadBalancer},
		{"network-policy", networkPolicy},
		{"network-policy-from-the-start", networkPolicyFromTheStart},
		{"service-account-in-pod", serviceAccountInPod},
		{"job", job},
		{"cronjob", cronJob},
		{"daemonset", daemonSet},
		{"statefulset-with-volumes", statefulSetWithVolumes},
		{"events-and-top", eventsAndTop},
		{"csi-volumes", csiVolumes},
		{"static-pods", staticPods},
		{"kubelet-endpoints", kubeletEndpoints},
		{"drain", drain},
		{"device-plugin", devicePlugin},
		{"claimed-devices", claimedDevices},
		{"extended-resources", extendedResources},
		{"devices-before-binding", devicesBeforeBinding},
		{"second-up-refused", secondUpRefused},
		{"history", history},
		{"dns-while-master-away", dnsWhileMasterAway},
		{"sigkill", sigkill},
		{"volumes-survive", volumesSurvive},
		{"kill-while-mounting", killWhileMounting},
	} {
		t.Run(each.name, func(t *testing.T) { each.run(c.space(t, "e2e-"+each.name)) })
	}
}

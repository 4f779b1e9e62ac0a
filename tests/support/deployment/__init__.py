"""Image, container, Kubernetes manifests and Prometheus."""

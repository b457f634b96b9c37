"""What the hub tells Prometheus."""

"""What is measured: taskqueue, the forwarders that are the limit, and the peers; all handled alike."""

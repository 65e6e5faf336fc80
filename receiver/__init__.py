"""The public edge: verifies a notification, acknowledges it and enqueues a job."""

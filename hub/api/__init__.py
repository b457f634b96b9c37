"""The hub over HTTP: models for devices, jobs and devices for people and scripts."""

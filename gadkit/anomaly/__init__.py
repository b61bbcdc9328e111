"""Anomaly detection: prompts, detectors, and how detection is measured."""

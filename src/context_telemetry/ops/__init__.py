"""Builds the operations package: Collector, alerts, dashboards and runbooks from indicators, limits and owners."""

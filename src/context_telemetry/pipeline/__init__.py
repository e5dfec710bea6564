"""Where records go: providers, exporters, content guard, local files, shutdown, and the launcher of `run`.

Nothing is imported here: the SDK comes when a pipeline starts, an exporter when it is configured.
"""

"""A stand-in for Dataface's private package `dataface_super_schema`, which cannot be had. For tests only.

It has the names by which the public wheel imports the package and those that Dataface's documents give, and does the
least that makes a real Dataface call them: `inspect.inspector.TableInspector.inspect_table`,
`inspect.storage.{InspectionStorage,ProjectInspectionStorage}`,
`inspect.sources.super_schema.SuperSchemaSource.{list_schemas,list_tables,profile_table,generated_at,_read_raw}`,
`inspect.connection.{InspectConnection,source_config_from_url}`, `inspect.relationship_context`,
`inspect.relationship_warnings`, `ai_schema_context.get_schema_context`, `cli.commands.inspect.inspect_all_command`.

The layout of the cache and what happens to one that cannot be read are inventions: all that is documented is
`generated_at` of the file and `profiled_at` of each profile.
"""

"""Makes the bundle that travels inside the package: ``python -m edgevand_export.builtin`` (docs/builtin.md)."""

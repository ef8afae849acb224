"""Base models: from a package, the hub, a folder, or generated; and loading a base with a change."""

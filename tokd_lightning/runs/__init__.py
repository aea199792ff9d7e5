"""Run folders: files, identity, provenance."""

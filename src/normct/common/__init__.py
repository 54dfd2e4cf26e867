"""Volumes, slice store, anatomy, transforms, registry, errors."""

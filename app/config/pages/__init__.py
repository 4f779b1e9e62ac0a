"""Generates documents: docs/providers.md from the presets, docs/settings.md from the model."""

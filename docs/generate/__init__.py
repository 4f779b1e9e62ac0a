"""Writes the generated documents: providers.md from the presets, settings.md from the model."""

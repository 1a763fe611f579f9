"""Raters that are people: what they are shown, what a key means, and the HTTP API.

Knows the vote store, not Gradio: apps/prefkit_apps draws the page.
"""

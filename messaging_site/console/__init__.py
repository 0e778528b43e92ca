"""The operator's console: Django's admin site with our own screens, rendered on the server."""
